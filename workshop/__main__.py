"""Run one of the workshop's commands: `python run.py workshop COMMAND [arguments]`."""

import importlib
import sys

#: Each command is a module of this package with `main(arguments) -> exit status`.
COMMANDS: dict[str, str] = {
    "copy": "working copies of the notebooks, which updates of the series never destroy",
    "projector": "larger text in JupyterLab and in charts, for the back row",
    "hub": "one machine for the room: JupyterHub for up to thirty learners",
    "load": "the load test: how many learners this machine carries",
    "bundle": "a folder with all that learners install, for a room without a network",
    "pages": "pages to print: plan, answers, handout, exercises, helpers' sheet",
}


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in COMMANDS:
        print("python run.py workshop COMMAND [arguments]; with --help a command explains itself\n")
        for name, what in COMMANDS.items():
            print(f"    {name:<10} {what}")
        return 0 if arguments[:1] in (["-h"], ["--help"]) else 2
    return importlib.import_module(f"workshop.{arguments[0]}").main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
