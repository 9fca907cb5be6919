"""Who has what in hand: tries of requests at instances, and the slots that they take up."""

from __future__ import annotations

from collections.abc import Iterator

from headgate.router.requests import Flight, Request
from headgate.router.table import Instance


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

    def take_off(self, number: int, request: Request, instance: Instance, now: float) -> Flight:
        """A request has been sent to an instance."""
        flight = Flight(number, request, instance, now)
        if request.trace is not None:
            request.trace.note_sent(instance.id, now)
        self._flights[number] = instance.flights[number] = request.flight = flight
        return flight

    def land(self, flight: Flight) -> None:
        """It is over; its slot is free."""
        self._flights.pop(flight.number, None)
        flight.instance.flights.pop(flight.number, None)
        flight.instance.doubtful.pop(flight.number, None)
        if flight.request is not None:
            flight.request.flight = None

    def let_go(self, flight: Flight) -> None:
        """Nobody waits any more; the slot stays taken until the instance says otherwise."""
        if flight.request is not None:
            flight.request.flight = None
            flight.request = None
        if flight.number in flight.instance.flights:
            flight.instance.doubtful[flight.number] = flight
        else:
            self._flights.pop(flight.number, None)

    def forget(self, flight: Flight) -> None:
        """The instance does not have it in hand; its answer may still come if somebody waits."""
        self.free_slot(flight)
        if flight.request is None:
            del self._flights[flight.number]

    @staticmethod
    def free_slot(flight: Flight) -> None:
        """Its model has finished with it."""
        flight.instance.flights.pop(flight.number, None)
        flight.instance.doubtful.pop(flight.number, None)

    def doubt_all(self) -> None:
        """What is under way now may be lost; heartbeats will tell which slots are free."""
        for flight in self._flights.values():
            if flight.number in flight.instance.flights:
                flight.instance.doubtful[flight.number] = flight
