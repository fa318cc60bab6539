"""What Databricks' servers refuse that Spark's own takes; the rest is in tests/system/test_connect.py."""

import pytest
import tiny
from pyspark.errors import PySparkException

from baton.errors import BadInput
from baton.runtime import spark, spark_connect


class Refusing:
    """A DataFrame, or a session's settings, of a server that refuses with that condition."""

    def __init__(self, condition: str, unset: str = ""):
        self.condition, self.unset, self.values, self.conf = condition, unset, {}, self

    def _refuse(self):
        raise PySparkException(message="refused", errorClass=self.condition, messageParameters={})

    def persist(self, level):
        self._refuse()

    def isModifiable(self, key):
        return key != "fixed"

    def get(self, key, default=""):
        return "theirs"

    def set(self, key, value):
        if key == self.unset:
            self._refuse()
        self.values[key] = value


def test_rows_are_computed_anew_where_a_server_holds_none(caplog):
    frame = Refusing("NOT_SUPPORTED_WITH_SERVERLESS")
    assert spark_connect.held(frame, None) is frame
    assert "computed anew" in caplog.text
    with pytest.raises(PySparkException):
        spark_connect.held(Refusing("TABLE_OR_VIEW_NOT_FOUND"), None)


def test_what_a_server_lets_no_session_set_is_named(caplog):
    session = Refusing("CONFIG_NOT_AVAILABLE", unset="guarded")
    spark_connect._set(session, {"good": "1", "guarded": "2", "fixed": "3"})
    assert session.values == {"good": "1"}
    assert "lets no session set guarded, fixed" in caplog.text


def test_a_server_named_in_the_config_is_one_of_spark_connect():
    config = tiny.config(spark={"master": "sc://host:15002"})
    assert spark.connects(config) and not spark.connects(tiny.config(spark={"master": "spark://host:7077"}))
    with pytest.raises(BadInput, match=r"launcher needs a SparkContext, .* Received: sc://host:15002$"):
        spark.demand_context(config, "launcher")
