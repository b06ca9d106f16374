"""A training set and a CatBoost model of it by hand: DuckDB over Parquet files, pandas, CatBoost.

``benchmarks/training.py`` runs this in a process of its own. The plan names the Parquet files of
each table, and of each feature view its keys, times and columns; the statement for the labelled
rows is the one of the bare demo. The joins are plain ``ASOF JOIN``s, which are right only because a
dbt test keeps every view ordered by knowledge. Nothing is checked, described, published or kept.

There are two ways to join sixteen views: in one statement, as one writes it first, and view by
view, as one does when the first is slow.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

Phase = Callable[[str], AbstractContextManager[None]]
Plan = Mapping[str, Any]


def open_tables(con: Any, plan: Plan) -> None:
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET enable_progress_bar = false")
    con.execute("SET asof_loop_join_threshold = 0")  # the plan for a small left side is quadratic
    for name, files in plan["tables"].items():
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {name.partition('.')[0]}")
        con.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet({files})")
    con.execute(plan["labelled_sql"])
    con.execute(
        f"CREATE TEMP TABLE ordered AS FROM labelled WHERE split <> 'purged' "
        f"ORDER BY prediction_time, {plan['id']}"
    )


def columns(view: Plan, texts: list[str]) -> str:
    """Numbers as float32, text with a value for null, both null where older than the view's ttl."""
    found = []
    for name in view["features"]:
        value = f"{view['name']}.{name}"
        if view["ttl_s"] is not None:
            fresh = f"prediction_time - INTERVAL '{view['ttl_s']} seconds'"
            value = f"CASE WHEN {view['name']}.{view['event_time']} >= {fresh} THEN {value} END"
        cast = f"coalesce({value}, '(missing)')" if name in texts else f"CAST({value} AS FLOAT)"
        found.append(f"{cast} AS {name}")
    return ", ".join(found)


def join(view: Plan) -> str:
    name = view["name"]
    on = [f"ordered.{mine} = {name}.{its}" for mine, its in view["keys"]]
    on.append(f"ordered.prediction_time >= {name}.{view['available_at']}")
    return f"ASOF LEFT JOIN {view['table']} AS {name} ON {' AND '.join(on)}"


def in_one_statement(con: Any, plan: Plan) -> Any:
    selected = ", ".join(columns(view, plan["texts"]) for view in plan["views"])
    joins = " ".join(join(view) for view in plan["views"])
    return con.execute(f"SELECT {selected} FROM ordered {joins} ORDER BY ordered.rowid").df()


def view_by_view(con: Any, plan: Plan) -> Any:
    import pandas as pd

    frames = [
        con.execute(
            f"SELECT {columns(view, plan['texts'])} FROM ordered {join(view)} "
            "ORDER BY ordered.rowid"
        ).df()
        for view in plan["views"]
    ]
    return pd.concat(frames, axis=1)


WAYS: Mapping[str, Callable[[Any, Plan], Any]] = {
    "bare, one statement": in_one_statement,
    "bare, view by view": view_by_view,
}


def run(plan: Plan, way: str, phase: Phase) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train; return for each part its rows (id, label, features) and its predictions."""
    with phase("imports"):
        import duckdb
        from catboost import CatBoostClassifier, Pool
    settings = {name: plan[name] for name in ("memory_limit", "threads", "temp_directory")}
    with duckdb.connect(config=settings) as con:
        with phase("training set"):
            open_tables(con, plan)
            features = WAYS[way](con, plan)
        with phase("frames"):
            around = con.execute(f"SELECT {plan['id']} AS id, label, split FROM ordered").df()
            for name in plan["texts"]:
                features[name] = features[name].astype("category")
            rows = {
                part: (around["id"][mine].to_numpy(), around["label"][mine], features[mine])
                for part in ("train", "validation", "test")
                for mine in [around["split"] == part]
            }
            del features
    with phase("fit"):
        pools = {
            part: Pool(features, label=label, cat_features=plan["texts"])
            for part, (_, label, features) in rows.items()
            if part != "test"
        }
        model = CatBoostClassifier(
            **plan["parameters"],
            random_seed=plan["seed"],
            thread_count=plan["threads"],
            use_best_model=True,
            allow_writing_files=False,
            verbose=False,
        ).fit(pools["train"], eval_set=pools["validation"])
    with phase("predictions"):
        predictions = {
            part: model.predict_proba(rows[part][2])[:, 1] for part in ("validation", "test")
        }
    return rows, predictions
