"""What notifications tell of a wait. They are hints to look now: what counts is what lies in S3."""

from __future__ import annotations

import datetime

from airflow_sm_plugin.async_inference.watch import Place, Watch
from airflow_sm_plugin.async_inference.watch_state import WatchState
from airflow_sm_plugin.core.notifications import InferenceNotification


class CompletionHints:
    """Which results notifications have told of since the last look: a bit for each."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._hinted = [0] * len(watch.shelves)
        self._by_folder: dict[str, list[int]] = {}
        for number, shelf in enumerate(watch.shelves):
            self._by_folder.setdefault(shelf.outputs, []).append(number)

    def take(self, notification: InferenceNotification) -> bool:
        """Take in a notification; say whether it is about what this owner sent, waited for or not."""
        place = self._place_of(notification)
        if place is not None:
            self._hinted[place.shelf] |= 1 << place.position
        own = self._watch.own_ids
        return place is not None or bool(own and (notification.inference_id or "").startswith(own))

    def _place_of(self, notification: InferenceNotification) -> Place | None:
        location = notification.output_location or ""
        folder, slash, name = location.rpartition("/")
        for number in self._by_folder.get(folder + slash, ()):
            for position in self._watch.shelves[number].names.outputs_in([name]):
                return Place(number, position)
        for number, shelf in enumerate(self._watch.shelves):
            if (position := shelf.names.id_at(notification.inference_id or "")) >= 0:
                return Place(number, position)
        return None

    def cover(self, state: WatchState, *, until_pending: int = 0) -> bool:
        """Say whether a look now would end the wait, if every hint holds."""
        left = sum(
            (one.pending(shelf) & ~hinted).bit_count()
            for shelf, one, hinted in zip(self._watch.shelves, state.shelves, self._hinted, strict=True)
        )
        return left <= until_pending

    def forget(self) -> None:
        """Begin anew after a look."""
        self._hinted = [0] * len(self._hinted)


def is_stale(notification: InferenceNotification, *, before: float) -> bool:
    """Say whether an inference had finished before a wait began: then nobody who waits now is told by it.

    :param before: when the wait began, epoch seconds
    """
    try:
        at = datetime.datetime.fromisoformat(notification.event_time or "")
        return at.replace(tzinfo=at.tzinfo or datetime.UTC).timestamp() < before
    except (ValueError, OverflowError):
        return False
