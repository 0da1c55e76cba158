import sys,time
from tests.simulation.plan import plan
from tests.simulation.world import World
def main():
    seed=int(sys.argv[1]); n=int(sys.argv[2]) if len(sys.argv)>2 else 1
    t=time.time(); ev=vs=0
    from collections import Counter
    c=Counter()
    for s in range(seed,seed+n):
        w=World(plan(s))
        r=w.run(); ev+=r.events; vs+=r.virtual_seconds
        c.update(r.faults)
        if n==1: print(w.trace.text())
        if r.property or n==1: print(r)
    print(time.time()-t, ev, vs, c)
