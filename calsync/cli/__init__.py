"""The command line (Typer) and what it prints (Rich). `main` is the entry point."""
