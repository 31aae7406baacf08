"""Which names in a pickle are known to run code, reach out or read other files when they are called.

The reader never imports or calls anything by a name from a file, so a name that is missing here harms nobody
here. The lists serve whoever would load the file with another program: such a file is refused by name instead
of being converted into one that looks sound. They follow what picklescan and fickling look for.
"""

from __future__ import annotations

from typing import Final


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Packages of which nothing belongs into a checkpoint.
_PACKAGES: Final = _words(
    """
    _pickle _posixsubprocess _winapi _winreg aiohttp antigravity asyncio bdb cgitb cloudpickle codeop commands
    cPickle cProfile ctypes dill distutils doctest ensurepip fabric ftplib http httpx idlelib imaplib imp
    importlib invoke joblib lib2to3 marshal multiprocessing nt ntpath os paramiko pdb pickle pickletools pip
    pipes pkg_resources pkgutil popen2 poplib posix posixpath pty py_compile pydoc requests runpy setuptools
    shelve shutil smtpd smtplib socket socketserver sqlite3 ssl subprocess sys sysconfig telnetlib tempfile
    timeit urllib urllib2 urllib3 venv webbrowser winreg xmlrpc zipimport
    """
)

#: The same of larger packages, most of which is harmless.
_MODULES: Final = (
    "concurrent.futures.process",
    "logging.config",
    "numpy.ctypeslib",
    "numpy.distutils",
    "numpy.f2py",
    "numpy.testing",
    "test.support",
    "torch._C._jit",
    "torch._dynamo.guards",
    "torch._inductor",
    "torch.distributed.elastic",
    "torch.distributed.launch",
    "torch.distributed.rpc",
    "torch.distributed.run",
    "torch.fx.experimental",
    "torch.hub",
    "torch.jit.unsupported_tensor_ops",
    "torch.multiprocessing",
    "torch.package",
    "torch.testing",
    "torch.utils._config_module",
    "torch.utils.bottleneck",
    "torch.utils.collect_env",
    "torch.utils.cpp_extension",
    "torch.utils.model_zoo",
)

#: A dotted name that passes through one of these reaches another module's inside: `torch.os.system`.
_WITHIN: Final = _words(
    """
    os posix nt subprocess sys importlib builtins __builtin__ pickle shutil ctypes socket runpy pty
    """
)

#: Callables that do what they are told to, whichever module gives them away.
_CALLABLES: Final = _words(
    """
    __import__ apply attrgetter breakpoint call check_call check_output compile delattr eval exec exec_ execfile
    execv execve fork_exec getattr getoutput getstatusoutput globals help import_module input load load_library
    load_module load_url loads locals map methodcaller open popen Popen raw_input read_pickle reload run_module
    run_path runcode runstring _load_from_bytes setattr spawn startfile system vars filter reduce
    """
)

#: Single names of modules that are harmless, or whose name a user's own package may well have.
_NAMES: Final = _words(
    """
    _io.FileIO code.InteractiveConsole code.InteractiveInterpreter code.interact io.FileIO profile.Profile
    profile.run profile.runctx signal.signal trace.Trace types.CodeType types.FunctionType types.LambdaType
    types.MethodType
    """
)


def is_dangerous(module: str, name: str) -> bool:
    """Whether calling a global is known to run code, to reach out or to read other files."""
    full = f"{module}.{name}"
    parts = full.split(".")
    return (
        parts[0] in _PACKAGES
        or parts[-1] in _CALLABLES
        or full in _NAMES
        or any(full == prefix or full.startswith(f"{prefix}.") for prefix in _MODULES)
        or any(part in _WITHIN for part in parts[1:])
        or any(part.startswith("__") and part.endswith("__") for part in name.split("."))
    )
