"""The REST edge of devices."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar import Router, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, SkipValidation
from msgspec import Meta

from yggdrasil.devices.model import Device
from yggdrasil.devices.paging import LIMIT_DEFAULT, Page
from yggdrasil.devices.service import Devices
from yggdrasil.kernel import Network
from yggdrasil.users.roles import Action

DevicesDependency = NamedDependency[SkipValidation[Devices]]
CallerDependency = NamedDependency[SkipValidation[Network]]


class RegisterDevice(msgspec.Struct, forbid_unknown_fields=True):
    """A new device; `proof` shows that its key is held."""

    device_id: Annotated[str, Meta(min_length=1, max_length=64)]
    name: Annotated[str, Meta(min_length=1, max_length=100)]
    world: Annotated[str, Meta(min_length=1, max_length=16)]
    device_key: Annotated[str, Meta(max_length=64)]
    proof: Annotated[str, Meta(max_length=128)]
    capabilities: dict[str, Any] = {}
    hardware: dict[str, Any] = {}


class UpdateDevice(msgspec.Struct, forbid_unknown_fields=True):
    """What is left out stays."""

    name: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    world: Annotated[str, Meta(min_length=1, max_length=16)] | None = None
    capabilities: dict[str, Any] | None = None
    hardware: dict[str, Any] | None = None


@get("/", action=Action.SEE_OWN_DEVICES)
async def list_devices(
    caller: CallerDependency,
    devices: DevicesDependency,
    owner: FromQuery[Literal["me", "network"]] = "me",
    limit: FromQuery[int] = LIMIT_DEFAULT,
    cursor: FromQuery[str | None] = None,
) -> Page:
    """The caller's devices, or with `owner=network` those of every member."""
    return await devices.page(caller, everyone=owner == "network", limit=limit, cursor=cursor)


@post("/", action=Action.OWN_DEVICES)
async def register_device(
    data: JSONBody[RegisterDevice], caller: CallerDependency, devices: DevicesDependency
) -> Device:
    """Register a device of the caller."""
    return await devices.register(
        caller,
        device_id=data.device_id,
        name=data.name,
        world=data.world,
        capabilities=data.capabilities,
        hardware=data.hardware,
        device_key=data.device_key,
        proof=data.proof,
    )


@get("/{device_id:str}", action=Action.SEE_OWN_DEVICES)
async def get_device(
    device_id: FromPath[str], caller: CallerDependency, devices: DevicesDependency
) -> Device:
    """One device of the network, by the id its owner assigned."""
    return await devices.get(caller, device_id)


@put("/{device_id:str}", action=Action.OWN_DEVICES)
async def update_device(
    device_id: FromPath[str],
    data: JSONBody[UpdateDevice],
    caller: CallerDependency,
    devices: DevicesDependency,
) -> Device:
    """Change a device of one's own; owners and admins of the network may change any."""
    return await devices.update(
        caller,
        device_id,
        name=data.name,
        world=data.world,
        capabilities=data.capabilities,
        hardware=data.hardware,
    )


@delete("/{device_id:str}", action=Action.OWN_DEVICES)
async def remove_device(
    device_id: FromPath[str], caller: CallerDependency, devices: DevicesDependency
) -> None:
    """Unregister a device: its sockets close, its offers end; it is signed out unless it asks itself."""
    await devices.remove(caller, device_id)


router = Router(
    path="/api/v1/devices",
    route_handlers=[list_devices, register_device, get_device, update_device, remove_device],
    tags=["devices"],
)
