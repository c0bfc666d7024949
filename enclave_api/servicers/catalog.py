"""Datasets: described, published, loaded, stopped."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime

from heixia.catalog.v1 import catalog_pb2 as pb
from heixia.catalog.v1 import catalog_pb2_grpc as rpc

from enclave_api import converters
from enclave_api.errors import RequestInvalid
from enclave_api.interceptors import Context, caller
from enclave_api.uploads import Uploads, timed
from enclave_api.wire_limits import CHUNK_BYTES_MAX
from sandbox.vault.datasets import Datasets, DatasetStatus


@dataclass
class CatalogServicer(rpc.CatalogServiceServicer):
    """CatalogService."""

    datasets: Datasets
    uploads: Uploads
    clock: Callable[[], datetime]

    async def ListDatasets(self, request: pb.ListDatasetsRequest, context: Context) -> pb.ListDatasetsResponse:
        """Every dataset, or one department's."""
        wanted = [d for d in self.datasets.status() if request.department in ("", d.dataset.department)]
        return pb.ListDatasetsResponse(datasets=[converters.dataset(d) for d in wanted])

    async def GetDataset(self, request: pb.GetDatasetRequest, context: Context) -> pb.GetDatasetResponse:
        """One dataset with its fields."""
        described = self.datasets.get(request.name)
        return pb.GetDatasetResponse(dataset=converters.dataset(described, with_fields=True))

    async def PublishDataset(self, request: pb.PublishDatasetRequest, context: Context) -> pb.PublishDatasetResponse:
        """Opens a dataset."""
        who = caller()
        status = await self.datasets.publish(request.name, request.layout_hash, who.organisation, str(who))
        return pb.PublishDatasetResponse(dataset=converters.dataset(status))

    async def LoadDataset(
        self, request: AsyncIterator[pb.LoadDatasetRequest], context: Context
    ) -> pb.LoadDatasetResponse:
        """Loads rows, all or nothing."""
        async with self.uploads.place(caller()):
            return await self._load(timed(request))

    async def _load(self, request: AsyncIterator[pb.LoadDatasetRequest]) -> pb.LoadDatasetResponse:
        who = caller()
        first = await anext(request, None)
        if first is None or first.WhichOneof("part") != "header":
            raise RequestInvalid("header", public="the first part of a load must be its header")
        header = first.header
        if not header.HasField("event_at"):
            raise RequestInvalid("event_at", public="event_at is missing: what day do the values describe?")
        event_at = converters.moment(header.event_at)
        load = self.datasets.begin(
            header.dataset, header.layout_hash, who.organisation, event_at, header.rows, self.clock()
        )
        async for part in request:
            if part.WhichOneof("part") != "chunk" or len(part.chunk.records) > CHUNK_BYTES_MAX:
                raise RequestInvalid("chunk", public="after the header come chunks of at most 1 MiB")
            # Aside, so that other calls go on while a megabyte is checked and encrypted.
            await asyncio.to_thread(self.datasets.add, load, part.chunk.subjects, part.chunk.records)
        number, index = await self.datasets.finish(load, str(who))
        return pb.LoadDatasetResponse(load=number, rows=header.rows, index=index)

    async def SuspendDataset(self, request: pb.SuspendDatasetRequest, context: Context) -> pb.SuspendDatasetResponse:
        """Stops every use at once."""
        status = await self._switch(request.name, request.reason, suspend=True)
        return pb.SuspendDatasetResponse(dataset=converters.dataset(status))

    async def ResumeDataset(self, request: pb.ResumeDatasetRequest, context: Context) -> pb.ResumeDatasetResponse:
        """Lifts the stop."""
        status = await self._switch(request.name, request.reason, suspend=False)
        return pb.ResumeDatasetResponse(dataset=converters.dataset(status))

    async def _switch(self, name: str, reason: str, *, suspend: bool) -> DatasetStatus:
        who = caller()
        return await self.datasets.switch(name, who.organisation, str(who), converters.reason(reason), suspend=suspend)
