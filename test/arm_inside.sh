# What test/arm.sh runs in the emulated root: install, test, compare.
export HOME=/root PATH=/opt/venv/bin:/usr/bin:/bin TMPDIR=/tmp OMP_NUM_THREADS=1
unset PIP_FIND_LINKS PIP_CERT # paths of the other system
cd /src
[ -x /opt/venv/bin/pip ] || python3 -m venv /opt/venv
# onnx makes the tests' networks; the core runs without it.
pip install --quiet --disable-pip-version-check '/src[export,test]'
python -c "import platform as p; print('arm: installed on', p.machine(), p.python_version())"
status=0
PYTHONPATH=test python -m pytest -q -p arm_tests -p no:cacheprovider --timeout 3000 || status=1
python test/arm_labels.py compare /labels || status=1
exit $status
