"""Who has what in hand: tries of requests at instances, and the slots that they take up."""

from __future__ import annotations

from collections.abc import Iterator

from headgate.router.requests import Flight, Request
from headgate.router.table import Instance
from headgate.router.wire import Outbox


class Flights:
    """All of one router, by their numbers."""

    def __init__(self) -> None:
        self._flights: dict[int, Flight] = {}

    def __iter__(self) -> Iterator[Flight]:
        return iter(self._flights.values())

    def find(self, number: object, instance_id: str) -> Flight | None:
        """The flight that an instance speaks of, if it is one of its own."""
        flight = self._flights.get(number) if type(number) is int else None
        return flight if flight is not None and flight.instance.id == instance_id else None

    def take_off(
        self, number: int, request: Request, instance: Instance, box: Outbox, now: float
    ) -> Flight:
        """A request has been put into an outbox of an instance."""
        flight = Flight(number, request, instance, box, now)
        if request.trace is not None:
            request.trace.note_sent(instance.id, now)
        self._flights[number] = instance.flights[number] = request.flight = flight
        return flight

    def land(self, flight: Flight) -> None:
        """It is over; its slot is free."""
        self._flights.pop(flight.number, None)
        self.free_slot(flight)
        if flight.request is not None:
            flight.request.flight = None

    def land_all(self, flights: list[Flight]) -> list[Request]:
        """They are over; what somebody still waits for."""
        for flight in flights:
            self.land(flight)
        return [flight.request for flight in flights if flight.request is not None]

    def let_go(self, flight: Flight) -> None:
        """Nobody waits any more; the slot stays taken until the instance says otherwise."""
        if flight.request is not None:
            flight.request.flight = None
            flight.request = None
        if flight.number in flight.instance.flights:
            flight.instance.doubtful[flight.number] = flight
        else:
            self._flights.pop(flight.number, None)

    def pass_on(self, flight: Flight) -> None:
        """Its request may take off again, and is still answered if its instance does after all."""
        flight.passed_on = flight.request
        self.let_go(flight)

    @staticmethod
    def waited_for(instance: Instance, box: Outbox | None = None) -> list[tuple[Flight, Request]]:
        """What a client waits for and has no part of an answer to yet, the newest first.

        With a ``box`` only what went through that.
        """
        return [
            (flight, flight.request)
            for flight in reversed(instance.flights.values())
            if flight.request is not None and flight.request.due is not None
            if box is None or flight.box is box
        ]

    @staticmethod
    def of_message(instance: Instance, box: Outbox, message: int) -> list[Flight]:
        """Those that were sent together."""
        flights = instance.flights.values()
        return [each for each in flights if each.message == message and each.box is box]

    def of_newest_message(self, instance: Instance) -> list[Flight]:
        """Those that were sent last over the bus, together."""
        box = instance.bus_outbox
        numbers = [each.message for each in instance.flights.values() if each.box is box]
        return self.of_message(instance, box, numbers[-1]) if numbers else []

    def forget(self, flight: Flight) -> None:
        """The instance does not have it in hand; its answer may still come if somebody waits."""
        self.free_slot(flight)
        if flight.request is None:
            del self._flights[flight.number]

    @staticmethod
    def free_slot(flight: Flight) -> None:
        """Its model has finished with it."""
        instance = flight.instance
        instance.flights.pop(flight.number, None)
        if instance.doubtful:
            instance.doubtful.pop(flight.number, None)

    def doubt_all(self) -> None:
        """What is under way on the bus may be lost; heartbeats will tell which slots are free."""
        for flight in self._flights.values():
            if flight.box.link is None and flight.number in flight.instance.flights:
                flight.instance.doubtful[flight.number] = flight
