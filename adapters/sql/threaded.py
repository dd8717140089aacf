"""A database asked from threads: for what is done so often that each hop between threads counts.

The asyncio drivers hop to a thread, or wait on a socket, once for each statement. Here a whole
transaction is one hop. What writes most often speaks to the driver itself, on a connection that
stays open: SQLAlchemy's share of such a transaction was four fifths of its CPU time.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from adapters.sql.connections import (
    READING,
    TIMEOUT_S,
    postgresql_url,
    prepare_sqlite,
    said,
    session_options,
    sqlite_file,
)
from adapters.sql.migrate import migrate
from adapters.sql.turns import turns_of
from ca.errors import IdentityStoreError, UnwritableError

__all__ = ["ThreadedDatabase", "open_threaded"]

_CONNECT_TIMEOUT_S = 3
# For one statement, the wait for a lock included; longer than a slow disk, shorter than patience.
_STATEMENT_TIMEOUT_MS = 5_000
# For the pause between two statements of a transaction; others wait for its locks, and not longer
# than a statement may take.
_IDLE_TIMEOUT_MS = 3_000
_Result = TypeVar("_Result")


class ThreadedDatabase:
    """One database: one thread that writes, one that reads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reading = engine.execution_options(**{READING: True})
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="store-reader")
        self._is_migrated = False
        self._file = sqlite_file(engine)
        driver: Any = engine.dialect.loaded_dbapi
        self._driver_error: type[Exception] = driver.Error
        # What is so of a row, and not of the database or the way to it.
        self._row_errors = (driver.IntegrityError, driver.DataError, UnicodeError, OverflowError)
        # Of the writer's thread alone.
        self._held: Any = None

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of one machine."""
        return self._engine.dialect.name == "sqlite"

    async def write_by_driver(
        self, begin: Callable[[Any], object], work: Callable[[Any], _Result]
    ) -> _Result:
        """Do something whole or not at all, by the driver's own cursor, before others who wait.

        Args:
            begin: Begins the transaction and takes its locks; it is tried again on a new connection
                if the old one has died, so it must write nothing.
            work: Does the rest.

        Raises:
            IdentityStoreError: The database can't be reached or written.
            UnwritableError: It takes no such row.
        """
        loop = asyncio.get_running_loop()
        async with self._turn(is_urgent=True):
            return await loop.run_in_executor(self._writer, self._by_driver, begin, work)

    async def write(self, work: Callable[[Connection], _Result]) -> _Result:
        """Do something whole or not at all; the next one begins when it has ended.

        Raises:
            IdentityStoreError: The database can't be reached or written.
        """
        async with self._turn():
            return await self._run(self._writer, self._engine, work)

    async def read(self, work: Callable[[Connection], _Result]) -> _Result:
        """Read, without holding up who writes.

        Raises:
            IdentityStoreError: The database can't be read.
        """
        if not self._is_migrated:
            await self.write(lambda _connection: None)
        return await self._run(self._reader, self._reading, work)

    async def close(self) -> None:
        """Finish what is under way and release the connections; a second call does nothing."""

        def finish() -> None:
            self._writer.submit(self._let_go).result()
            self._writer.shutdown()
            self._reader.shutdown()
            self._engine.dispose()

        await asyncio.to_thread(finish)

    def _by_driver(self, begin: Callable[[Any], object], work: Callable[[Any], _Result]) -> _Result:
        try:
            self._migrate()
            cursor = self._begun(begin)
            try:
                result = work(cursor)
                self._held.commit()
            except BaseException:
                self._let_go()
                raise
        except self._row_errors as error:
            raise UnwritableError(f"the store: {said(error)}") from error
        except (SQLAlchemyError, self._driver_error, OSError) as error:
            raise IdentityStoreError(f"the store: {said(error)}") from error
        return result

    def _begun(self, begin: Callable[[Any], object]) -> Any:
        """Begin on the connection that is held, or on a new one if that has died meanwhile."""
        if self._held is not None:
            try:
                cursor = self._held.cursor()
                begin(cursor)
            except self._driver_error:
                self._let_go()
            else:
                return cursor
        self._held = self._engine.raw_connection()
        try:
            cursor = self._held.cursor()
            begin(cursor)
        except BaseException:
            self._let_go()
            raise
        return cursor

    def _let_go(self) -> None:
        """Close the connection that is held, and with it what was not committed."""
        held, self._held = self._held, None
        if held is None:
            return
        if self._file is not None:
            # An SQLite connection is closed when its last cursor is gone, and somebody may keep an
            # error that knows of one: until then it would keep the file locked.
            with contextlib.suppress(Exception):
                held.rollback()
        with contextlib.suppress(Exception):  # It may be dead, and what of it.
            held.invalidate()

    def _migrate(self) -> None:
        if not self._is_migrated:
            with self._engine.begin() as connection:
                migrate(connection)
            self._is_migrated = True

    def _turn(self, *, is_urgent: bool = False) -> contextlib.AbstractAsyncContextManager[None]:
        if self._file is None:  # A server has a line of its own.
            return contextlib.nullcontext()
        return turns_of(self._file).taken(TIMEOUT_S, IdentityStoreError, is_urgent=is_urgent)

    async def _run(
        self, threads: ThreadPoolExecutor, engine: Engine, work: Callable[[Connection], _Result]
    ) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(
            threads, self._in_transaction, engine, work
        )

    def _in_transaction(self, engine: Engine, work: Callable[[Connection], _Result]) -> _Result:
        try:
            self._migrate()
            with engine.begin() as connection:
                return work(connection)
        except (SQLAlchemyError, OSError) as error:
            raise IdentityStoreError(f"the store: {said(error)}") from error


def open_threaded(url: str, file: Path) -> ThreadedDatabase:
    """Open one; nothing is connected before it is used.

    Args:
        url: Of a PostgreSQL; "" for SQLite.
        file: Of SQLite; its folder has to exist.
    """
    return ThreadedDatabase(_postgresql(url) if url else _sqlite(file))


def _postgresql(url: str) -> Engine:
    from adapters.sql.patience import Connection as Patient  # noqa: PLC0415 - SQLite needs none

    address = postgresql_url(url)
    engine = create_engine(
        address,
        pool_pre_ping=True,
        pool_size=2,
        connect_args={
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "options": session_options(address, _STATEMENT_TIMEOUT_MS, _IDLE_TIMEOUT_MS),
            # A server that went away without a word: the thread must not wait for the kernel's
            # quarter of an hour.
            "tcp_user_timeout": _STATEMENT_TIMEOUT_MS,
        },
    )

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, words: Any, named: Any) -> Patient:
        return Patient.connect(*words, **named)

    return engine


def _sqlite(file: Path) -> Engine:
    engine = create_engine(f"sqlite:///{file}", connect_args={"check_same_thread": False})
    prepare_sqlite(engine)
    return engine
