"""`python -m knowscope_tui` is `knowscope-tui`."""

from knowscope_tui.cli.main import main

if __name__ == "__main__":
    main()
