"""What a session costs: the time of a request with one, over the same request without.

::

    pip install -e . -r bench/requirements.txt
    python -m bench

prints reStructuredText, ready for the README. How it measures:

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
"""
