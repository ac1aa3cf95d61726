"""Read by the JupyterLab that `make lab` starts, beside your own configuration."""

from common.cli.serve import keep_metadata

c = get_config()  # noqa: F821 - Jupyter defines it
c.ContentsManager.pre_save_hook = keep_metadata
