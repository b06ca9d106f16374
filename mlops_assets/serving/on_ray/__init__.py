"""The model server as a Ray Serve deployment: the app of one worker, as replicas on many machines.

What belongs here is what several machines add to it. A `Replica` is the app on Ray; the replicas of
a machine share its folder, as the workers of a server do. A `Keeper` on each machine does what the
follower of a server does: it brings the registry's champions into the folder and ships the log. It
is started and started again by Ray. The switches that a person sets (`switches`) are the head's.
`serving` starts all of it. This package needs the extra `ray`; import from its modules.
"""
