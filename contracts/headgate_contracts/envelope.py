"""What every message on the bus has in common: a type tag with a version, an id, a cause, a time.

Messages are frozen values. Readers ignore unknown fields, so a newer writer never breaks an older
reader; within ``v1`` fields are only ever added, each with a default. A message is built without
id and time (pure code has neither) and stamped once, by the runtime, as it leaves.
"""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict

from headgate_contracts.errors import WireError

CLOUDEVENTS_SPEC_VERSION = "1.0"


class Value(BaseModel):
    """A frozen piece of a message or resource. Unknown fields are ignored on reading."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class Message(Value):
    """Anything that crosses the bus as typed JSON.

    ``id`` names this message (also the JetStream de-duplication id of an event), ``cause`` is the
    id of the message or HTTP request that provoked it, ``at`` is Unix time in seconds (UTC).
    """

    TYPE: ClassVar[str] = ""

    id: str = ""
    cause: str = ""
    at: float = 0.0

    def stamped(self, *, id: str, at: float, cause: str = "") -> Self:
        """This message with its id, time and cause filled in; set values are kept."""
        return self.model_copy(
            update={"id": self.id or id, "at": self.at or at, "cause": self.cause or cause}
        )


class Command(Message):
    """An order to one service, named in the imperative. Answered by its reply or a WireError.

    ``by`` is the principal that gave the order, as the gateway has checked it.
    """

    by: str = ""


class Query(Message):
    """A question to one service, answered without any change."""


class Reply(Message):
    """The answer to a command or query."""


class Event(Message):
    """Something that happened, named in the past tense; never answered."""

    def subject(self) -> str:
        """Where this event is said."""
        raise TypeError(f"{type(self).__name__} has no subject of its own")


class Done(Reply):
    """The command was carried out and there is nothing to tell."""

    TYPE: ClassVar[str] = "headgate.reply.v1.done"


class Refused(Reply):
    """The command or query was not carried out; ``error`` says whose fault it is and why."""

    TYPE: ClassVar[str] = "headgate.reply.v1.refused"

    error: WireError
