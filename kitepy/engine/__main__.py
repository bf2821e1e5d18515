"""Entry point of ``kitepy-engine``: options, process id file, launcher; only then is anything heavy imported.

An ordinary user's engine enters its namespaces before all else. Then the launcher is forked, while the process is small and has
no thread: all containers are forked from it.
"""

from __future__ import annotations

import os
import sys

from kitepy.engine.config import ConfigError, parse_config


def main(argv: list[str] | None = None) -> int:
    """Run the engine until it is told to stop; gives the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    diagnose = [argument for argument in arguments if argument in ("--diagnose", "--diagnose=json")]
    try:
        config = parse_config([word for word in arguments if word not in diagnose], uid=os.getuid(), environ=os.environ)
    except ConfigError as error:
        print(f"kitepy-engine: {error}", file=sys.stderr)
        return 1
    if diagnose:
        from kitepy.engine.rootless.diagnosis import diagnose as run_diagnosis

        return run_diagnosis(config.data_root, os.environ, as_json=diagnose[-1].endswith("=json"))
    from kitepy.engine.pidfile import PidFile
    from kitepy.engine.rootless.holder import RootlessError
    from kitepy.engine.runtime.launcher import fork_launcher

    try:
        with PidFile(config.pidfile):
            session = None
            if os.getuid() != 0:
                from kitepy.engine.rootless.entry import enter

                session = enter(config.exec_root, os.environ)
            launcher = fork_launcher()
            if session is not None:
                from kitepy.engine.rootless.delegation import go_back

                go_back(session.delegation)
            from kitepy.engine.daemon import run

            return run(config, launcher, session)
    except (ConfigError, RootlessError, OSError) as error:
        print(f"kitepy-engine: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
