"""Who may do what at the gateway: actions, and the least role that each of them needs. Pure."""

from __future__ import annotations

from enum import StrEnum

from headgate_contracts.identity import Role


class Action(StrEnum):
    """What a route does, as far as rights are concerned."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    SCORE = "score"
    LIST_KEYS = "list_keys"
    REPLACE_KEYS = "replace_keys"
    READ_SECRETS = "read_secrets"
    GIVE_ACCESS = "give_access"
    ADMINISTER = "administer"
    ANY = "any"
    """Whoever has any role anywhere; the handler looks at the rest."""


LEAST_ROLE: dict[Action, Role] = {
    Action.ANY: Role.READER,
    Action.READ: Role.READER,
    Action.WRITE: Role.OPERATOR,
    Action.SCORE: Role.OPERATOR,
    Action.DELETE: Role.OWNER,
    Action.LIST_KEYS: Role.OWNER,
    Action.REPLACE_KEYS: Role.OWNER,
    Action.READ_SECRETS: Role.OWNER,
    Action.GIVE_ACCESS: Role.OWNER,
    Action.ADMINISTER: Role.ADMIN,
}

_OF_VERB = {"GET": Action.READ, "HEAD": Action.READ, "DELETE": Action.DELETE}


def action_of(verb: str) -> Action:
    """What a verb does when its route does not say otherwise."""
    return _OF_VERB.get(verb, Action.WRITE)
