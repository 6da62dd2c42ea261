"""Where the package's config files lie."""

from pathlib import Path


def folder(name: str, package: Path | None = None) -> Path:
    """Find the folder `conf` or `experiments`.

    A wheel carries it in `_data/` beside the package's modules; in a checkout, and so in an editable install, it lies
    one level above the package.

    Args:
        name: "conf" or "experiments".
        package: The package's folder, for tests.
    """
    package = package or Path(__file__).resolve().parent.parent
    places = (package / "_data" / name, package.parent / name)
    found = next((place for place in places if place.is_dir()), None)
    assert found is not None, f"the installation is broken: no folder {name} in {places}"
    return found
