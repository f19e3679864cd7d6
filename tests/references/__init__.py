"""What a stranger would fill into a new plugin called `mine`: the bodies of what is marked in the
templates, by class and name, for each kind. A body is pasted, so it imports what it needs itself. A
method that is missing here hands on to `self.inner`, a double or a plugin that keeps the contract.
"""
