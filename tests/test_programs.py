"""What operators need of the programs that they call."""

import pytest

from aiflow_core.errors import AIFlowError
from aiflow_core.programs import Program, telling_line

ON_A_SERVER = """
org.apache.flink.util.FlinkException: Failed
\tat A.b(A.java:1)
Caused by: RestClientException: [Internal server error., <Exception on server side:
org.apache.flink.Duplicate: Already there.
\tat C.d(C.java:1)
End of exception on server side>]
\t... 4 more
"""


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("", ""),
        ("one\n  two  \n\n-----\n", "two"),
        ("x\nCaused by: outer\n\tat A.b\nCaused by: inner\n\t... 3 more\nbye\n", "inner"),
        ("java.lang.Error: out of luck\n\tat A.b(A.java:1)\n", "java.lang.Error: out of luck"),
        ("out of luck\n26/11/25 08:00:00 INFO ShutdownHookManager: called\n", "out of luck"),
        (
            "Web UI\n[NO_SUCH_TABLE] No `t`.\nSearch path: [x].\n+- 'T [t]\n",
            "[NO_SUCH_TABLE] No `t`.",
        ),
        ("E: [A_B] no\n  at the end\n'Project [*]\n", "E: [A_B] no"),
        (ON_A_SERVER, "org.apache.flink.Duplicate: Already there."),
    ],
)
def test_the_line_that_says_most_is_found(output: str, line: str) -> None:
    assert telling_line(output) == line


def test_what_is_printed_is_passed_on_and_kept(capsys: pytest.CaptureFixture[str]) -> None:
    program = Program(["sh", "-c", "echo out; echo $COLOUR >&2; exit 3"], {"COLOUR": "red"})

    assert program.wait() == 3
    assert program.output == capsys.readouterr().out == "out\nred\n"


def test_what_cannot_be_started_is_named() -> None:
    with pytest.raises(AIFlowError, match=r"/nowhere cannot be started: No such file"):
        Program(["/nowhere"])
