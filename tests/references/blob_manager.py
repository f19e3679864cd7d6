class MineBlobManager:
    def __init__(self):
        from aiflow_blob_manager_local.blob_manager import LocalBlobManager

        self.inner = LocalBlobManager(self.root_directory)

    def _stat(self, key):
        found = self.inner._stat(key)
        return None if found is None else self._blob(key, found.size, found.modified_ms)

    def _list(self, prefix, after):
        for found in self.inner._list(prefix, after):
            yield self._blob(found.key, found.size, found.modified_ms)

    def _explain(self, error):
        return self.inner._explain(error)
