"""Streams through the front: many at once, both ways, and quiet ones."""

import asyncio
import json
import queue
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from tests.e2e.support.clients import channel_to
from tests.e2e.support.reflection import LIST, ask
from tests.e2e.support.service import Service

STREAMS = 1_500
TIMEOUT_S = 60.0
ONE_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
SERVING = health_pb2.HealthCheckResponse.SERVING


def test_1500_streams_of_the_front_are_open_at_once(service: Service) -> None:
    """Health watches on one connection; Envoy's own limit for a client is far lower."""

    async def watch_all() -> list[int]:
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{service.port}", ONE_CONNECTION
        ) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            calls = [
                stub.Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
                for _ in range(STREAMS)
            ]
            replies = await asyncio.gather(*(call.read() for call in calls))
            assert not any(call.done() for call in calls), "a stream ended by itself"
            for call in calls:
                call.cancel()
            return [reply.status for reply in replies]

    assert asyncio.run(watch_all()) == [SERVING] * STREAMS


def test_1500_streams_to_control_are_open_at_once(service: Service) -> None:
    """Reflection goes through the front's router, whose own default is 1,024."""

    async def ask_all() -> int:
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{service.port}", ONE_CONNECTION
        ) as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            calls = [stub.ServerReflectionInfo(timeout=TIMEOUT_S) for _ in range(STREAMS)]
            # The second time all of them are open for certain.
            answered = [await ask_each_once(calls), await ask_each_once(calls)]
            for call in calls:
                call.cancel()
            return min(answered)

    async def ask_each_once(calls: list[Any]) -> int:
        await asyncio.gather(*(call.write(LIST) for call in calls))
        replies = await asyncio.gather(*(call.read() for call in calls))
        return sum(len(reply.list_services_response.service) > 0 for reply in replies)

    assert asyncio.run(ask_all()) == STREAMS


def test_a_bidi_stream_answers_each_question_before_the_next(service: Service) -> None:
    """Questions and answers take turns on one stream: nothing waits for the stream's end."""
    questions: queue.SimpleQueue[str] = queue.SimpleQueue()

    def asked() -> Iterator[str]:
        while question := questions.get():
            yield question

    with channel_to(service.port) as channel:
        answers = ask(channel, asked())
        for question in ("*", "envoy.service.auth.v3.Authorization", "*", "grpc.health.v1.Health"):
            questions.put(question)
            assert next(answers)
        questions.put("")
        assert next(answers, None) is None


def test_a_quiet_stream_stays(service: Service) -> None:
    """The front's Envoy was told so for every timer there is, and does so for a while here."""
    (written,) = (service.folder / "run").glob("front-0*.json")
    timers = [
        (name, value)
        for name, value in fields(json.loads(written.read_text()))
        if name in {"stream_idle_timeout", "timeout", "max_stream_duration", "request_timeout"}
        and isinstance(value, str)
    ]
    assert ("stream_idle_timeout", "0s") in timers
    # What is left are the routes' own and the keepalive's wait for a ping.
    assert {value for _, value in timers} <= {"0s", "10s"}

    async def be_quiet() -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{service.port}") as channel:
            call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            await call.write(LIST)
            assert (await call.read()).list_services_response.service
            assert (await watch.read()).status == SERVING
            await asyncio.sleep(2)
            await call.write(LIST)
            assert (await call.read()).list_services_response.service
            assert not watch.done()
            call.cancel()
            watch.cancel()

    asyncio.run(be_quiet())


def fields(tree: object) -> Iterator[tuple[str, object]]:
    """Give every named value in a JSON tree."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield name, value
            yield from fields(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from fields(value)
