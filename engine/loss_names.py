"""Name losses by the domains of a run: methods say cycle_a, people read cycle_photo."""

from collections.abc import Iterable, Sequence

ROLES: tuple[str, ...] = ("a", "b")


def shown_name(name: str, domains: Sequence[str]) -> str:
    """Return the name of a loss with the domain's own name in place of its role, a or b.

    >>> shown_name("cycle_a", ["photo", "monet"])
    'cycle_photo'
    """
    term, _, role = name.rpartition("_")
    domain = _names(domains).get(role)
    return f"{term}_{domain}" if term and domain else name


def role_name(name: str, domains: Sequence[str]) -> str:
    """Return the name that a method gives a loss: the inverse of `shown_name`.

    >>> role_name("cycle_photo", ["photo", "monet"])
    'cycle_a'
    """
    # The longest first: photo also ends the name of old_photo.
    for role, domain in sorted(_names(domains).items(), key=lambda item: -len(item[1])):
        if name.endswith(f"_{domain}") and name != f"_{domain}":
            return name.removesuffix(domain) + role
    return name


def uses_role_names(logged: Iterable[str], domains: Sequence[str]) -> bool:
    """Return whether logged names have roles where `shown_name` would have another name."""
    return any(shown_name(name, domains) != name for name in logged)


def _names(domains: Sequence[str]) -> dict[str, str]:
    """Return role -> name of its domain; empty where a domain has the name of the other role."""
    names = dict(zip(ROLES, domains, strict=False)) if len(domains) == len(ROLES) else {}
    is_ambiguous = any(name in ROLES and name != role for role, name in names.items())
    return {} if is_ambiguous else names
