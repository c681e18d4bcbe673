"""What a session costs: the time of a request with a session, minus the time of the same request without a session.

::

    pip install -e . -r bench/requirements.txt
    python -m bench

prints reStructuredText, ready for the README. ``--engines`` does the same for databases, Memcached and the two-tier
store; ``--rows`` shows whether a table of very many sessions is slower than a table of a thousand; ``--growth`` shows
the same for a folder. A server that is missing is named and left out. How it measures:

- A request is a direct call of ``app.wsgi_app``; its body is consumed and closed; the client sends back every
  cookie. The bare request runs the same view on a session that costs nothing, and its time is subtracted within
  each round.
- One process. In every round every subject runs every scenario for a few milliseconds, in shuffled order (the
  seed is fixed), so that a machine that slows down slows all of them. The tables show medians over the
  rounds.
- Client and server share one core, if the system can pin processes: across cores, waking the other process costs
  more than the work. The garbage collector is off during samples. The files are in the current folder, or in
  ``--dir``; after every sample that wrote, the bench waits until the disk has finished.
- The bare rows show whether a run is useful: a busy machine raises them, and ext4 without a journal makes files
  slowly for minutes after many files were deleted, as at the end of a run.
- Every extension runs with its defaults, except that the folder of cachelib has no limit, because above 500 files
  it throws living sessions away. Round trips are counted by the server itself.
- PostgreSQL and MariaDB do not wait for the disk after a commit: this wait is the same for both projects. SQLite does
  what each project tells it: Flask-Session's commits wait, this project's commits do not (``synchronous=NORMAL``), so
  the rows of SQLite also show the disk; ``--dir /dev/shm`` leaves the disk out.
- A two-tier read is always a cache hit: a sample is shorter than the life of an entry, and its first run is not timed.
"""
