"""What a session costs: the cost of a request with a session, minus the cost of the same request without a session.

::

    pip install -e . -r bench/requirements.txt
    python -m bench                 # time, on files and Redis, and round trips
    python -m bench --engines       # time, on databases, Memcached and two tiers
    python -m bench --instructions  # instructions, compared with their budgets
    python -m bench --throughput    # requests a second under gunicorn

prints reStructuredText; ``--write-docs`` also keeps it where the documentation and the README include it. ``--rows``
shows whether a table of very many sessions is slower than a table of a thousand; ``--growth`` shows the same for a
folder; ``--help`` shows the rest. A server that is missing is named and left out. What is common to all:

- A request is a direct call of ``app.wsgi_app``; its body is consumed and closed; the client sends back every
  cookie. The bare request runs the same view on a session that costs nothing, and its cost is subtracted.
- A small session has ten keys, a large one has 200 keys and 50 KB. "new" fills a small session for a visitor without
  a cookie; "read" reads one key; "write" reads and sets one key.
- Every extension runs with its defaults, except that the folder of cachelib has no limit, because above 500 files
  it throws living sessions away. Round trips are counted by the server itself.
- PostgreSQL and MariaDB do not wait for the disk after a commit: this wait is the same for both projects. SQLite does
  what each project tells it: Flask-Session's commits wait, this project's commits do not (``synchronous=NORMAL``), so
  the rows of SQLite also show the disk; ``--dir /dev/shm`` leaves the disk out.
- Flask-Session's writes to Memcached wait for no reply, and have no time-out.

Time
----

- One process. In every round every subject runs every scenario for a few milliseconds, in shuffled order (the seed is
  fixed), so that a machine that slows down slows all of them.
- Of the rounds the lower tenth counts, for the bare request, too: what else the machine does makes samples slower, and
  none faster. Medians rise with the load, and not for all subjects by the same factor. There are three runs, one after
  the other; a ratio is the median of their ratios.
- Client and server share one core, if the system can pin processes: across cores, waking the other process costs
  more than the work. The garbage collector is off during samples. The files are in the current folder, or in
  ``--dir``; after every sample that wrote, the bench waits until the disk has finished.
- The bare rows show whether a run is useful: a busy machine raises them, and ext4 without a journal makes files
  slowly for minutes after many files were deleted, as at the end of a run.
- A two-tier read is always a cache hit: a sample is shorter than the life of an entry, and its first run is not timed.

Instructions
------------

- Valgrind's callgrind counts what the processor executes in user space: not the kernel, and not the server. A count
  is the same to 1 % however busy the machine is; but Python's caches go by address, so another folder, or another
  order of imports, changes a figure by up to four thousand.
- The count is the median of three batches of ten requests, after a hundred requests, in which the interpreter adapts
  its bytecode. The hash seed is fixed, the garbage collector is off, memory is copied in a way that does not depend on
  the processor.
- The import is that of ``flask_sessionstore`` after Flask's, from compiled bytecode, as a share of Flask's own.
- ``bench/budgets.toml`` has the budgets, and the interpreter and versions that they hold for. The exit code is 1 if a
  figure is above its budget by more than 3 % (and five thousand). ``--record`` makes what was found the budgets.

Throughput
----------

Six gunicorns with two workers each, of the default kind, answer four browsers in turn. The browsers are Python, too,
and use the same cores; each request has a connection of its own.
"""
