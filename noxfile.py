"""One session for each question that is asked of a change: `uv run --all-packages nox`."""

import os
import shutil
import tempfile
from pathlib import Path

import nox

ROOT = Path(__file__).parent
SPARK = ROOT / ".nox" / "spark"
PYTHONS = ["3.11", "3.12", "3.13"]

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True


def run(session: nox.Session, *command: str, **env: str) -> None:
    """Run a tool in the workspace's own environment: another one would hold the same."""
    session.run("uv", "run", "--all-packages", *command, env=env, external=True)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Does it work, on this Python?"""
    session.run_install(
        *("uv", "sync", "--all-packages", "--quiet", f"--python={session.virtualenv.location}"),
        env={"UV_PROJECT_ENVIRONMENT": session.virtualenv.location},
        external=True,
    )
    session.run("pytest", "-n", "3", "--dist", "loadfile", *session.posargs)


@nox.session(venv_backend="none", default=False)
def models(session: nox.Session) -> None:
    """Does it do what its models say, for more than a million steps? That takes an hour or two;
    `-- --models-effort=5` is more patient than a test run, and less than this."""
    effort = session.posargs or ["--models-effort=70"]
    run(session, "pytest", "-m", "model", "-k", "not fault", *effort)


@nox.session(venv_backend="none", default=False)
def integration(session: nox.Session) -> None:
    """Does it work with servers that are too heavy for every test run, and with 1 GiB and 10,000
    files in a store? Needs Java, Maven and uv."""
    # Only its programs are called, and it is too large for the environment of every developer.
    session.run_install("uv", "venv", "--quiet", "--allow-existing", str(SPARK), external=True)
    session.run_install(
        *("uv", "pip", "install", "--quiet", f"--python={SPARK}", "pyspark==4.3.0"), external=True
    )
    env = {
        "PATH": os.pathsep.join([os.environ["PATH"], str(SPARK / "bin")]),
        "PYSPARK_PYTHON": str(SPARK / "bin" / "python"),
    }
    run(session, "pytest", "-m", "integration", "--timeout=1800", *session.posargs, **env)
    run(
        session,
        *("pytest", "-m", "", "--timeout=3600", "--blob-mib=1024", "--blob-objects=10000"),
        "-k",
        # Without those that hold all in the memory of the test.
        "(memory_does_not_grow or many_are_listed) and not TestInMemory "
        "and not TestInAnObjectStore and not TestMemoryBlobManager",
        *map(str, sorted(ROOT.glob("plugins/blob-manager-*/tests/test_*_blob_manager.py"))),
    )


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Is it written as the rest is?"""
    run(session, "ruff", "check")
    run(session, "ruff", "format", "--check")


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Do the types hold?"""
    run(session, "mypy")


@nox.session(venv_backend="none")
def imports(session: nox.Session) -> None:
    """Does everyone import only whom he may (setup.cfg)?"""
    run(session, "lint-imports")


@nox.session(python="3.11")
def docs(session: nox.Session) -> None:
    """Does the manual build, with no link into nowhere?"""
    session.run_install(
        *("uv", "sync", "--only-group=docs", "--quiet", f"--python={session.virtualenv.location}"),
        env={"UV_PROJECT_ENVIRONMENT": session.virtualenv.location},
        external=True,
    )
    with tempfile.TemporaryDirectory() as site:
        session.run(
            *("mkdocs", "build", "--strict", "-f", "docs/mkdocs.yml", "--site-dir", site),
            # The theme's advertisements of its successors.
            env={"NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"},
        )


@nox.session(venv_backend="none", default=False)
def reference(session: nox.Session) -> None:
    """Writes the pages of the manual that follow from the code."""
    run(session, "python", "-m", "tests.reference")


@nox.session(venv_backend="none")
def build(session: nox.Session) -> None:
    """Does what is built work where there is no checkout?

    Each wheel is built from its sdist, so that a source distribution is proven to be complete.
    """
    with tempfile.TemporaryDirectory() as name:
        outside = Path(name)
        dist, environment = outside / "dist", outside / "venv"
        home, quickstart = outside / "home", outside / "quickstart"
        session.run(
            *("uv", "build", "--all-packages", "--quiet", f"--out-dir={dist}"), external=True
        )
        wheels, sdists = sorted(dist.glob("*.whl")), sorted(dist.glob("*.tar.gz"))
        members = len(list(ROOT.glob("plugins/*/pyproject.toml"))) + 1
        if not len(wheels) == len(sdists) == members:
            session.error(f"{members} distributions: {len(wheels)} wheels, {len(sdists)} sdists")
        session.run("uv", "venv", "--quiet", "--python=3.11", str(environment), external=True)
        session.run(
            *("uv", "pip", "install", "--quiet", f"--python={environment}"),
            *map(str, wheels),
            external=True,
        )
        shutil.copytree(ROOT / "examples" / "quickstart", quickstart)
        session.chdir(outside)
        # Nothing of the checkout's environment may help.
        env = {
            "PATH": os.pathsep.join([str(environment / "bin"), os.defpath]),
            "AIFLOW_HOME": str(home),
            "PYTHONPATH": "",
            "VIRTUAL_ENV": str(environment),
        }
        for command in (
            ("aiflow", "--help"),
            ("aiflow", "version"),
            ("aiflow", "plugins", "list"),
            ("aiflow", "plugins", "doctor"),
            ("aiflow", "plugin", "new", "operator", "mine", "--directory", str(outside / "mine")),
            ("notification", "version"),
            ("aiflow", "run", str(quickstart / "workflow.py")),
        ):
            program = str(environment / "bin" / command[0])
            session.run(program, *command[1:], env=env, external=True)


@nox.session(venv_backend="none", default=False)
def chaos(session: nox.Session) -> None:
    """Does it hold, whatever happens to it? `nox -s chaos -- kills --count 1000 --seed 7`"""
    run(session, "python", "-m", "tests.chaos", *(session.posargs or ["all"]))
