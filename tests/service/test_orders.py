"""What an operator asks is done by the thread that owns the journey, or refused."""

import threading

import pytest

from service.errors import ConfigError, EngineError
from service.orders import Orders


@pytest.fixture
def stopping():
    return threading.Event()


@pytest.fixture
def orders(stopping):
    """Orders that a thread of its own carries out, as the journey's does."""
    told = Orders(stopping)
    over = threading.Event()

    def work():
        while not over.wait(0.005):
            told.carry_out()

    thread = threading.Thread(target=work, name="journey")
    thread.start()
    yield told
    over.set()
    thread.join()


def test_an_order_is_carried_out_by_the_thread_of_the_journey(orders):
    threads = []
    orders.ask(lambda: threads.append(threading.current_thread().name))
    assert threads == ["journey"]


def test_a_refusal_comes_back_to_the_one_who_asked(orders):
    def refuse():
        raise ConfigError("scan star is not running")

    with pytest.raises(ConfigError, match="star is not running"):
        orders.ask(refuse)


def test_nobody_waits_for_a_service_that_stops(stopping):
    stopping.set()
    with pytest.raises(EngineError, match="overloaded, or stopping"):
        Orders(stopping).ask(lambda: None)
