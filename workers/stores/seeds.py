"""What a module puts into its store in memory before a session runs: each project gets it, once."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from langgraph.store.memory import InMemoryStore

from app.database import DriverPool
from workers.graph.codec import Codec
from workers.stores import item_repository as repository
from workers.stores.item_repository import Id, Write
from workers.stores.item_values import encoded, vectors_in


@dataclass(frozen=True)
class Seeds:
    items: Mapping[Id, Write]
    _given: set[str] = field(default_factory=set)
    """The projects that have them, as this process knows."""

    @classmethod
    def of(cls, memory: InMemoryStore, codec: Codec) -> "Seeds":
        """Raises UnstorableValue."""
        vectors = vectors_in(memory)
        return cls(
            {
                (namespace, key): Write(encoded(item.value, codec), vectors.get((namespace, key), {}))
                for namespace, items in memory._data.items()
                for key, item in items.items()
            }
        )

    def are_all_of(self, memory: InMemoryStore) -> bool:
        """Says whether nothing was added since; what adds is a node that uses the module's own variable."""
        return sum(map(len, memory._data.values())) == len(self.items)

    async def give(self, pool: DriverPool, project: str) -> None:
        """An item that the project has deleted or changed since does not come back."""
        if self.items and project not in self._given:
            await repository.seed(pool, project, self.items)
            self._given.add(project)
