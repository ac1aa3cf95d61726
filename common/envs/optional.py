"""Packages that some environments need and that are not installed by default."""

from __future__ import annotations

from importlib import metadata


def require(package: str, version: str, needs: str, what: str) -> None:
    """FileNotFoundError, with the next step, unless ``package`` is there in ``version``. ``needs`` begins the sentence, ``what`` the
    package does for it."""
    try:
        found = metadata.version(package)
    except metadata.PackageNotFoundError:
        found = "absent"
    if found != version:
        raise FileNotFoundError(f"{needs} {package} {version}, which {what}, but it is {found}; "
                                f"run: pip install -c requirements.lock -e '.[{package}]'")  # fmt: skip
