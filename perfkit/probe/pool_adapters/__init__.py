"""What the recorder of connection pools knows about each library, one file each, sent to the target as source.

A file here defines `MODULE`, the module of the library whose import says that it is used, and

```
class Adapter:
    def __init__(self, book, module): ...  # book: perfkit.probe.pool_parts.book.Book

    name = "library"
    classes: tuple  # classes of its pools
    folder: str  # where its sources are: frames in there are not the caller's
    hooks: list  # perfkit.probe.pool_parts.hooks.Hook, made by book.hook(...)

    def title(self, pool): ...  # what people call the pool, without credentials
    def settings(self, pool): ...  # {name: value}
    def state(self, pool): ...  # {"max", "open", "in_use", "idle", "waiting", "ghosts"}, what is known of it
    def slots(self, pool): ...  # [(slot, is it in use)]
```
A *slot* is the library's object for one place in the pool. What a hook calls reads attributes only:
it runs in the target's own threads, between two of its instructions.
"""
