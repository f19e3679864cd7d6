"""Behaves as the command line of Flink, with a cluster that is a directory.

An application is named after what its job does: `succeeds`, `fails` and `runs`.
"""

import os
import sys
from pathlib import Path

JOBS = Path(__file__).parent / "jobs"
STATES = {"succeeds": "FINISHED", "fails": "FAILED", "runs": "RUNNING"}


def run(arguments: list[str]) -> int:
    (id,) = (a.partition("=")[2] for a in arguments if a.startswith("-D$internal.pipeline.job-id="))
    application = next((a for a in arguments if Path(a).stem in STATES), None)
    if application is None:
        print("Could not get job jar and dependencies from JAR file: JAR file does not exist")
        print("\nUse the help option (-h or --help) to get help on the command.")
        return 1
    draft = JOBS / f".{os.getpid()}"
    draft.write_text(STATES[Path(application).stem])
    try:
        os.link(draft, JOBS / id)
    except FileExistsError:
        print("org.apache.flink.client.program.ProgramInvocationException: Could not execute job")
        print("\tat org.apache.flink.client.cli.CliFrontend.main(CliFrontend.java:1)")
        print("Caused by: org.apache.flink.runtime.client.DuplicateJobSubmissionException: Job has")
        return 1
    finally:
        draft.unlink()
    with (JOBS / ".begun").open("a") as begun:
        begun.write(f"{id} {' '.join(arguments)}\n")
    print(f"Job has been submitted with JobID {id}")
    return 0


def list_jobs() -> int:
    print("Waiting for response...")
    for job in sorted(JOBS.glob("[!.]*")):
        print(f"25.11.2026 08:00:00 : {job.name} : aiflow (x) ({job.read_text()})")
    return 0


def end(id: str, state: str) -> int:
    if not (JOBS / id).exists() or (JOBS / id).read_text() != "RUNNING":
        print(f"Caused by: org.apache.flink.runtime.rest.NotFoundException: Job {id} not found")
        return 1
    (JOBS / f".end-{id}").write_text(state)
    (JOBS / f".end-{id}").rename(JOBS / id)
    return 0


def main(command: str, *arguments: str) -> int:
    if (JOBS / ".unreachable").exists():
        (JOBS / ".unreachable").unlink()
        print("Caused by: java.net.ConnectException: Connection refused")
        return 1
    if command == "run":
        return run(list(arguments))
    if command == "list":
        return list_jobs()
    with (JOBS / ".ended").open("a") as ended:
        ended.write(f"{command} {' '.join(arguments)}\n")
    return end(arguments[-1], {"cancel": "CANCELED", "stop": "FINISHED"}[command])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
