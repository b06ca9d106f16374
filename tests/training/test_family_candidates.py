"""A candidate's algorithm and parameters are judged without importing its library."""

import inspect
import subprocess
import sys

import pytest

from mlops_assets.training.class_source import ClassNotFoundError, class_source
from mlops_assets.training.estimators.catboost_parameters import PARAMETERS
from mlops_assets.training.family import CandidateDeclaration
from mlops_assets.training.family_candidates import candidate_problems


def test_the_list_of_catboosts_parameters_is_that_of_the_installed_version() -> None:
    from catboost import CatBoostClassifier, CatBoostRegressor

    takes = {
        name
        for kind in (CatBoostClassifier, CatBoostRegressor)
        for name in inspect.signature(kind).parameters
    }
    assert takes == PARAMETERS, f"write {sorted(takes ^ PARAMETERS)} into, or out of, PARAMETERS"


@pytest.mark.parametrize(
    ("algorithm", "parameters", "place", "said"),
    [
        ("linear", {"c": 1}, "c", "'c' is no parameter of linear"),
        ("ensemble", {"step": 9}, "step", "did you mean 'steps'?"),
        ("net", {"k": 0}, "k", "0 is not allowed. Allowed: a whole number from 1 to 256"),
        ("catboost", {"num_trees": 9}, "num_trees", "is named iterations here"),
        ("sklearn.linear_model:Ridge", {"n_jobs": 9}, "n_jobs", "is set by the platform"),
        ("sklearn.svm:SVC", {"gama": 9}, "gama", "did you mean 'gamma'?"),
    ],
)
def test_an_unknown_parameter_is_named_with_the_nearest(
    algorithm: str, parameters: dict, place: str, said: str
) -> None:
    [found] = candidate_problems(CandidateDeclaration(algorithm=algorithm, parameters=parameters))
    assert found.keys == ("parameters", place)
    assert said in found.text


@pytest.mark.parametrize(
    "algorithm",
    [
        "sklearn.linear_model:LogisticRegression",
        "sklearn.ensemble:HistGradientBoostingClassifier",
        "sklearn.svm:SVC",
        "catboost:CatBoostRegressor",
        "mlops_assets.training.estimators.linear:Linear",
        "mlops_assets.training.estimators.net:Net",
    ],
)
def test_an_estimator_has_no_problem(algorithm: str) -> None:
    assert list(candidate_problems(CandidateDeclaration(algorithm=algorithm))) == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("sklern:Ridge", "no module 'sklern' is installed; did you mean 'sklearn'?"),
        ("sklearn.linear_modl:Ridge", "did you mean 'linear_model'?"),
        ("sklearn.linear_model:Rige", "did you mean 'Ridge'?"),
        ("sklearn:linear_model", "is a module, and no class"),
    ],
)
def test_a_path_that_leads_nowhere_names_the_nearest(path: str, said: str) -> None:
    with pytest.raises(ClassNotFoundError) as caught:
        class_source(path)
    assert said in str(caught.value)


def test_what_the_source_does_not_tell_is_left_to_training() -> None:
    assert class_source("math:Anything") is None  # compiled
    naive = class_source("sklearn.naive_bayes:GaussianNB")
    assert naive is not None
    assert {"fit", "predict"} <= naive.methods
    assert naive.parameters == ("priors", "var_smoothing")


def test_no_library_is_imported_for_it() -> None:
    program = (
        "import sys; from mlops_assets.training.family import CandidateDeclaration as C\n"
        "from mlops_assets.training.family_candidates import candidate_problems as p\n"
        "names = 'linear', 'catboost', 'net', 'ensemble', 'sklearn.svm:SVC'\n"
        "[list(p(C(algorithm=n, parameters={'x': 1}))) for n in names]\n"
        "print([n for n in ('sklearn', 'catboost', 'torch', 'scipy') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"
