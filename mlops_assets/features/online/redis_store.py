"""The online store in Redis, for servers on several machines.

Each view is one hash. A fill writes a hash of its own and renames it over the view's in the
transaction that also changes the view's state, so that readers, who read both in one transaction,
never see half of a fill. A hash whose filler died expires by itself.

All keys have one hash tag, as a transaction in a Redis Cluster needs.
"""

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from mlops_assets.features.online.errors import OnlineStoreError, OnlineStoreUnavailableError
from mlops_assets.features.online.layout import Layout, ViewState
from mlops_assets.features.online.rows import Found, decode_row, encoded, holders, twice
from mlops_assets.lake import TableVersion

try:
    import redis
except ModuleNotFoundError as missing:
    raise OnlineStoreError(
        "MLOPS_ONLINE_STORE_URL names a Redis, but its client library is not installed. "
        "Install it: pip install 'mlops-assets[redis]'"
    ) from missing

_PREFIX = "{mlops:online}"
_STATES = f"{_PREFIX}:states"
_AT_ONCE = 5_000  # rows of one command, and fields of one scan
_ABANDONED_SECONDS = 3600  # since its last rows were written, nobody writes to a fill any more
_SECONDS = 5.0


class RedisStore:
    """An `OnlineStore` in Redis.

    Parameters
    ----------
    url
        Such as ``redis://:password@host:6379/0``; ``rediss://`` for TLS, ``unix://`` for a socket.
    """

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(
            url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS
        )
        parts = urlsplit(url)
        host = (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
        self._place = f"{parts.scheme}://{host}{parts.path}"
        self._read: dict[bytes, ViewState] = {}

    @property
    def place(self) -> str:
        """Its URL without user and password."""
        return self._place

    def replace(
        self, layout: Layout, source: TableVersion, as_of: datetime, rows: Iterable[pa.RecordBatch]
    ) -> ViewState:
        """Replace all rows of a view; see `OnlineStore.replace`."""
        new = f"{_PREFIX}:filling:{layout.name}:{secrets.token_hex(8)}"
        with self._translated("fill"):
            written = self._write(new, encoded(layout, rows))
            if self._redis.hlen(new) != written:
                self._redis.unlink(new)
                raise twice(layout, source)
            state = ViewState(layout, source, as_of, datetime.now(UTC), written)
            with self._redis.pipeline(transaction=True) as pipe:
                pipe.unlink(_rows_key(layout.name))
                if written:
                    pipe.rename(new, _rows_key(layout.name))
                    pipe.persist(_rows_key(layout.name))
                pipe.hset(_STATES, layout.name, state.to_json())
                pipe.execute()
        return state

    def state(self) -> Mapping[str, ViewState]:
        """Return what is stored, by name; see `OnlineStore.state`."""
        with self._translated("read"):
            states: Any = self._redis.hgetall(_STATES)
        return {name.decode(): ViewState.from_json(stored) for name, stored in states.items()}

    def get(self, wanted: Sequence[tuple[str, Sequence[bytes]]]) -> Sequence[Found]:
        """Return rows by their keys; see `OnlineStore.get`."""
        if not wanted:
            return []
        with self._translated("read"), self._redis.pipeline(transaction=True) as pipe:
            pipe.hmget(_STATES, [name for name, _ in wanted])
            for name, keys in wanted:
                if keys:
                    pipe.hmget(_rows_key(name), list(dict.fromkeys(keys)))
            stored, *rows = pipe.execute()
        answers = iter(rows)
        found: list[Found] = []
        for (_, keys), state in zip(wanted, stored, strict=True):
            distinct = dict(zip(dict.fromkeys(keys), next(answers), strict=True)) if keys else {}
            decoded = {key: row and decode_row(row) for key, row in distinct.items()}
            found.append(Found(state and self._state(state), [decoded[key] for key in keys]))
        return found

    def delete_entities(self, column: str, value: Any) -> Mapping[str, int]:
        """Delete every row that holds a value; see `OnlineStore.delete_entities`."""
        deleted: dict[str, int] = {}
        for name, state in self.state().items():
            holds = holders(state.layout, column, value)
            if holds is None:
                continue
            with self._translated("delete from"):
                rows = self._redis.hscan_iter(_rows_key(name), count=_AT_ONCE)
                keys = [key for key, row in rows if holds(key, row)]
                for start in range(0, len(keys), _AT_ONCE):
                    self._redis.hdel(_rows_key(name), *keys[start : start + _AT_ONCE])
            deleted[name] = len(keys)
        return deleted

    def close(self) -> None:
        """Close all connections; see `OnlineStore.close`."""
        self._redis.close()

    def _write(self, key: str, rows: Iterator[tuple[bytes, bytes]]) -> int:
        """Write rows to a hash that expires when no more come; return how many there were."""
        written = 0
        some: dict[Any, Any] = {}
        count = 0
        for field, row in rows:
            some[field] = row
            count += 1
            if count == _AT_ONCE:
                self._send(key, some)
                written, count, some = written + count, 0, {}
        if some:
            self._send(key, some)
        return written + count

    def _send(self, key: str, rows: dict[Any, Any]) -> None:
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, mapping=rows)
            pipe.expire(key, _ABANDONED_SECONDS)
            pipe.execute()

    def _state(self, stored: bytes) -> ViewState:
        """Read a state, which is the same for a great many requests, once."""
        state = self._read.get(stored)
        if state is None:
            if len(self._read) > _AT_ONCE:
                self._read.clear()
            state = self._read[stored] = ViewState.from_json(stored)
        return state

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Say of Redis's errors what they mean here; none of them shows the password."""
        try:
            yield
        except (
            redis.ConnectionError,
            redis.TimeoutError,
            redis.exceptions.BusyLoadingError,
        ) as error:
            if isinstance(error, redis.AuthenticationError):
                raise OnlineStoreError(
                    f"cannot {what} the online store {self.place}: it refuses the user or password "
                    "in MLOPS_ONLINE_STORE_URL"
                ) from error
            raise OnlineStoreUnavailableError(
                f"cannot {what} the online store {self.place}: it does not answer ({error}). Start "
                "it, or mend MLOPS_ONLINE_STORE_URL"
            ) from error
        except redis.RedisError as error:
            raise OnlineStoreError(
                f"cannot {what} the online store {self.place}: {error}. What it held before, it "
                "still holds"
            ) from error


def _rows_key(name: str) -> str:
    return f"{_PREFIX}:rows:{name}"
