"""What the recorder of connection pools knows about each library, one file each, sent to the target as source.

A file here defines `MODULE`, the module of the library whose import says that it is used, and

```
class Adapter:
    def __init__(self, book, module): ...  # book: perfkit.probe.pool_parts.book.Book

    name = "library"
    classes: tuple  # classes of its pools
    folder: str  # where its sources are: frames in there are not the caller's
    hooks: list  # perfkit.probe.pool_parts.hooks.Hook, made by book.hook(...)

    tunes: dict  # {"size": "max_size"}: what can be changed on the live pool, and its name in `settings`
    fixed: dict  # {"lifetime": "why it cannot be"}: the rest of size, lifetime, idle (a time) and kept (idle ones)

    def title(self, pool): ...  # what people call the pool, without credentials
    def settings(self, pool): ...  # {name: value}
    def state(self, pool): ...  # {"max", "open", "in_use", "idle", "waiting", "ghosts"}, what is known of it
    def slots(self, pool): ...  # [(slot, is it in use)]
    def refuses(self, pool, word, value): ...  # optional: why this value cannot be tried on this pool, or None
    def tune(self, pool, word, value, before): ...  # change it; `before`: the settings as they were at first
    def shrink(self, pool): ...  # optional, where a smaller pool keeps what it has: take one out if there are too many
```
A *slot* is the library's object for one place in the pool. What a hook calls reads attributes only:
it runs in the target's own threads, between two of its instructions. `tune` and `shrink` run in the probe's thread,
and only in an experiment.
"""
