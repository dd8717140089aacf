"""The comparison sees what it is there to see."""

import copy
from typing import Any

import pytest

from tests.wire.compare import differences
from tests.wire.describe import Declared, declared

PEER = "envoy.service.auth.v3.AttributeContext.Peer"
RESPONSE = "envoy.service.auth.v3.CheckResponse"
ACTION = "envoy.config.core.v3.HeaderValueOption.HeaderAppendAction"
SERVICE = "envoy.service.auth.v3.Authorization"


@pytest.fixture(name="mine")
def _mine() -> Declared:
    return {
        **declared("protos.envoy.config.core.v3.base_pb2"),
        **declared("protos.envoy.service.auth.v3.attribute_context_pb2"),
        **declared("protos.envoy.service.auth.v3.external_auth_pb2"),
    }


def test_a_thing_is_itself(mine: Declared) -> None:
    """Nothing is found where nothing differs."""
    assert differences(mine, copy.deepcopy(mine), mine) == []


@pytest.mark.parametrize(
    ("name", "fact", "trait", "value"),
    [
        (PEER, "field principal", "number", 9),
        (PEER, "field principal", "type", "TYPE_BYTES"),
        (PEER, "field principal", "label", "LABEL_REPEATED"),
        (PEER, "field principal", "json name", "Principal"),
        (PEER, "field principal", "optional", True),
        (PEER, "field address", "type name", ".envoy.config.core.v3.Pipe"),
        (PEER, "field labels", "map", False),
        (f"{PEER}.LabelsEntry", "field value", "type", "TYPE_BYTES"),
        (RESPONSE, "field ok_response", "oneof", ""),
        (ACTION, "value ADD_IF_ABSENT", "number", 7),
        (SERVICE, "method Check", "request", f".{PEER}"),
        (SERVICE, "method Check", "reply", f".{PEER}"),
        (SERVICE, "method Check", "request is a stream", True),
        (SERVICE, "method Check", "reply is a stream", True),
    ],
)
def test_one_doctored_trait_is_found(
    mine: Declared, name: str, fact: str, trait: str, value: Any
) -> None:
    """Each trait counts, of a field, an enum value or a method."""
    theirs = copy.deepcopy(mine)
    theirs[name][fact][trait] = value
    assert differences(mine, theirs) == [
        f"{name}, {fact}: {trait} is {mine[name][fact][trait]!r}, theirs {value!r}"
    ]


def test_a_field_that_only_we_have_is_found(mine: Declared) -> None:
    """A renamed field is one of these too."""
    theirs = copy.deepcopy(mine)
    del theirs[PEER]["field principal"]
    assert differences(mine, theirs) == [f"{PEER}, field principal: is ours alone"]


def test_a_message_that_only_we_have_is_found(mine: Declared) -> None:
    """A message in the wrong package is one of these too."""
    theirs = copy.deepcopy(mine)
    del theirs[PEER]
    assert differences(mine, theirs) == [f"{PEER}: is ours alone"]


def test_we_may_declare_less_but_not_of_a_whole_message(mine: Declared) -> None:
    """What is left out is reported for the messages that are declared whole, and only for them."""
    theirs = copy.deepcopy(mine)
    theirs[PEER]["field novel"] = theirs[PEER]["field principal"]
    theirs["envoy.service.auth.v3.Novel"] = {}
    assert differences(mine, theirs) == []
    assert differences(mine, theirs, {PEER}) == [f"{PEER}, field novel: is missing"]
