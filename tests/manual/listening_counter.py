from typing import List

from ai_flow.notification.notification_client import ListenerProcessor, Event

class Counter(ListenerProcessor):
    def __init__(self):
        self.counter = 0

    def process(self, events: List[Event]):
        self.counter += len(events)
