class MineEventStore:
    def __init__(self):
        from aiflow_core.testing.event_store import MemoryEventStore

        self.inner = MemoryEventStore(self.clock)


class MineEventStoreSubscription:
    def __init__(self):
        self.inner = self.store.inner.subscribe(self.after, self.filter)

    def __iter__(self):
        return iter(self.inner)
