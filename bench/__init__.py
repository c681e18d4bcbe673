"""What a session costs: the time of a request with one, over the same request without.

::

    pip install -e . -r bench/requirements.txt
    python -m bench

prints reStructuredText, ready for the README. ``--engines`` does the same for databases, Memcached and the two-tier
store; ``--rows`` asks whether a table of very many sessions is slower than one of a thousand; ``--growth`` asks that of
a folder. A server that is missing is named, and left out. How it measures:

- A request is a direct call of ``app.wsgi_app``, its body consumed and closed; the client follows every
  cookie. The bare request runs the same view on a session that costs nothing, and is subtracted within each
  round.
- One process. In every round every subject runs every scenario for a few milliseconds, in shuffled order (the
  seed is fixed), so that a machine that slows down slows all of them; what is shown are medians over the
  rounds.
- Client and server share one core, where the system can pin: across cores, waking the other one costs more
  than the work. The garbage collector rests during samples. The files lie in the current folder, or in
  ``--dir``; the disk is let finish after every sample that wrote.
- The bare rows tell whether a run is worth keeping: a busy machine raises them, and ext4 without a journal is slow
  to make files for minutes after many were deleted, as at the end of a run.
- Every extension runs with its defaults, but the folder of cachelib has no limit, since above 500 files it
  throws live sessions away. Round trips are what the server itself counts.
- PostgreSQL and MariaDB do not wait for the disk after a commit: that wait is the same for everybody. SQLite does what
  each project tells it: Flask-Session's commits wait, this project's do not (``synchronous=NORMAL``), so its rows say
  as much of the disk; ``--dir /dev/shm`` leaves the disk out.
- A two-tier read is one on a cache hit: a sample is shorter than an entry is good for, and its first run is not timed.
"""
