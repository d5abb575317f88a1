# Copyright (c) OpenMMLab. All rights reserved.
import pytest

from mmpose.engine.monitors import Every, FailureGuard, OverheadBudget


class Simulation:
    """A training in which everything takes an exactly known time."""

    def __init__(self, share, costs, intervals, iter_seconds=1.):
        self.now = 0.
        self.guards = {name: FailureGuard(name) for name in costs}
        self.costs = costs
        self.schedules = {name: Every(n) for name, n in intervals.items()}
        self.budget = OverheadBudget(
            share, self.guards.values(), clock=lambda: self.now)
        self.readings = {name: [] for name in costs}
        self.iter_seconds = iter_seconds

    def run(self, iters):
        self.budget.start()
        for step in range(1, iters + 1):
            self.now += self.iter_seconds
            for name, guard in self.guards.items():
                if (self.schedules[name].is_due(step)
                        and self.budget.allows(guard)):
                    self.now += self.costs[name]
                    guard.seconds += self.costs[name]
                    self.readings[name].append(step)
        return self

    def share(self):
        return sum(g.seconds for g in self.guards.values()) / self.now


def test_five_times_the_budget_is_brought_within_it():
    """Within 20 % after 200 iterations."""
    simulation = Simulation(0.01, dict(a=0.0505), dict(a=1)).run(200)
    assert simulation.share() == pytest.approx(0.01, rel=0.2)
    assert simulation.readings['a'][0] == 1
    assert simulation.budget.stretch(simulation.guards['a']) == 5


def test_the_costliest_is_stretched_and_the_cheap_are_not():
    simulation = Simulation(0.01, dict(cheap=0.001, dear=0.1),
                            dict(cheap=1, dear=1)).run(400)
    assert len(simulation.readings['cheap']) == 400
    assert simulation.share() == pytest.approx(0.01, rel=0.2)
    assert len(simulation.readings['dear']) > 20


def test_intervals_within_the_budget_are_left_alone():
    simulation = Simulation(0.01, dict(a=0.02, b=0.001), dict(a=10,
                                                              b=1)).run(300)
    assert len(simulation.readings['a']) == 31
    assert len(simulation.readings['b']) == 300


def test_intervals_are_restored_when_there_is_room():
    simulation = Simulation(0.01, dict(a=0.05), dict(a=1)).run(200)
    stretched = len(simulation.readings['a'])
    simulation.iter_seconds = 10.  # a larger batch, say
    simulation.run(100)
    assert len(simulation.readings['a']) - stretched > 90
    assert simulation.budget.stretch(simulation.guards['a']) == 1


def test_the_costly_share_what_the_cheap_leave():
    """Whoever is asked first, and however much one of them costs."""
    simulation = Simulation(0.01, dict(cheap=0.001, dear=0.02, dearest=0.05),
                            dict(cheap=1, dear=1, dearest=1)).run(2000)
    seconds = {n: g.seconds for n, g in simulation.guards.items()}
    assert len(simulation.readings['cheap']) == 2000
    assert simulation.share() == pytest.approx(0.01, rel=0.02)
    for name in ('dear', 'dearest'):
        assert seconds[name] > 0.9 * simulation.now * 0.01 / 3
