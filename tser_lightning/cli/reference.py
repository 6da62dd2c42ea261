"""The reference of all settings, `python -m tser_lightning.cli.reference > docs/settings.md`."""

from collections.abc import Iterator

from tser_lightning.schema.setting import Setting, Settings, settings_of

HEAD = """# Settings

Every setting: what it takes and what it means. Values are in conf/; `tser --help loss=tser` prints both for an option,
`--cfg job` all that a run has. This page is made by `python -m tser_lightning.cli.reference > docs/settings.md`."""


def reference() -> str:
    """Write the page: groups without a class first, then classes by the room that they lie in."""
    settings_of("")  # reads all declarations
    return "\n".join([HEAD, *_groups(), *_classes()]) + "\n"


def _groups() -> Iterator[str]:
    for place, owner in sorted(Settings.groups.items()):
        yield from ["", f"## `{place}`" if place else "## At the top of a config", "", *_table(place, owner)]


def _classes() -> Iterator[str]:
    names: dict[type[Settings], list[str]] = {}
    for target, owner in sorted(Settings.by_target.items()):
        names.setdefault(owner, []).append(target)
    for owner, targets in sorted(names.items(), key=lambda each: each[1]):
        yield from ["", f"## {', '.join(f'`{target}`' for target in targets)}", "", *_table("", owner)]


def _table(place: str, owner: type[Settings]) -> Iterator[str]:
    yield from [(owner.__doc__ or "").strip().splitlines()[0], ""]
    if owner.model_fields:
        yield from ["| setting | takes | means |", "|---|---|---|", *_rows(place, owner)]


def _rows(place: str, owner: type[Settings]) -> Iterator[str]:
    for name, field in owner.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Settings):
            yield from _rows(name, inner)
        else:
            known = Setting(name, field)
            yield f"| `{f'{place}.' if place else ''}{name}` | {known.wanted} | {known.meaning} |"


if __name__ == "__main__":
    print(reference(), end="")
