"""The fast way from Python into a kernel, as LLVM text: a function that Python calls directly.

`emit_entry()` returns a module with one function of CPython's METH_FASTCALL | METH_KEYWORDS
convention, `PyObject *autodiff_entry(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
PyObject *kwnames)`. It is the same for all kernels: what it checks, allocates and calls stands in a
table of 64-bit words, which is the data of the NumPy array that is its `self`. It is compiled once,
however many kernels there are.

    word 0..8    arguments, outputs, kernel, sizes, begin, end, fallback, form, guards
    word 9...    for each argument, then each output: address of its dtype, ndim, shape

An argument must be an ndarray itself (no subclass) of exactly that dtype object, aligned, in C
order, and of that shape (of any shape where ndim is -1, and no shape follows). `guards` is null, or
the address of a table of what must still be so:

    word 0, 1    context variables, cells
    word 2...    for each context variable, then each cell: its address, that of the object it holds

If anything is otherwise, or an argument has a name, the object `fallback` is called with the same
arguments. Outputs are new arrays; a kernel's pointers are the arguments' data and then the
outputs'. Returned is, by `form`, the only output, a list of the outputs, or a tuple of them.

Everything here rests on the layout of CPython's and NumPy's objects, which the caller must have
checked: PyObject from 3.11 to 3.13 with the global lock (Include/object.h), PyArrayObject of
NumPy 2 (numpy/core/include/numpy/ndarraytypes.h, tagPyArrayObject_fields).
"""

from __future__ import annotations

#: Words of the table before the first argument.
HEADER = 9

#: What is returned: the values of `form`.
ALONE, LIST, TUPLE = range(3)

#: Where a cell has what it holds.
CONTENTS = 16

#: Offsets in objects.
TYPE, DATA, NDIM, SHAPE, STRIDES, DTYPE, FLAGS = 8, 16, 24, 32, 40, 56, 64

#: NPY_ARRAY_C_CONTIGUOUS and NPY_ARRAY_ALIGNED.
IN_C_ORDER, ALIGNED = 0x1, 0x100

#: What the caller binds by address: Python's and NumPy's functions and the type of arrays.
EXTERNALS = (
    "Py_DecRef",
    "Py_IncRef",
    "PyContextVar_Get",
    "PyList_New",
    "PyList_SetItem",
    "PyObject_Vectorcall",
    "PyTuple_New",
    "PyTuple_SetItem",
    "autodiff_ndarray_type",
    "autodiff_new_array",
)


def emit_entry() -> str:
    """Return the module's text: `autodiff_entry`, and the kernel `autodiff_probe` to try it with.

    The probe copies one float64 from its first pointer to its last one, which is number
    `sizes[0]`, and adds `begin` and `end` to it.
    """
    return _TEXT


_TEXT = f"""\
@autodiff_ndarray_type = external global i8
declare ptr @autodiff_new_array(ptr, ptr, i32, ptr, ptr, ptr, i32, ptr)
declare ptr @PyObject_Vectorcall(ptr, ptr, i64, ptr)
declare ptr @PyList_New(i64)
declare i32 @PyList_SetItem(ptr, i64, ptr)
declare ptr @PyTuple_New(i64)
declare i32 @PyTuple_SetItem(ptr, i64, ptr)
declare i32 @PyContextVar_Get(ptr, ptr, ptr)
declare void @Py_IncRef(ptr)
declare void @Py_DecRef(ptr)

define ptr @autodiff_entry(ptr %self, ptr %args, i64 %nargs, ptr %kwnames) nounwind {{
entry:
  %at_data = getelementptr i8, ptr %self, i64 {DATA}
  %table = load ptr, ptr %at_data
  %inputs = load i64, ptr %table
  %at_outputs = getelementptr i64, ptr %table, i64 1
  %outputs = load i64, ptr %at_outputs
  %at_kernel = getelementptr i64, ptr %table, i64 2
  %at_sizes = getelementptr i64, ptr %table, i64 3
  %at_begin = getelementptr i64, ptr %table, i64 4
  %at_end = getelementptr i64, ptr %table, i64 5
  %at_fallback = getelementptr i64, ptr %table, i64 6
  %at_form = getelementptr i64, ptr %table, i64 7
  %at_guards = getelementptr i64, ptr %table, i64 8
  %records = getelementptr i64, ptr %table, i64 {HEADER}
  %total = add i64 %inputs, %outputs
  %pointers = alloca ptr, i64 %total
  %objects = alloca ptr, i64 %outputs
  %held = alloca ptr
  %as_many = icmp eq i64 %nargs, %inputs
  %unnamed = icmp eq ptr %kwnames, null
  %is_form = and i1 %as_many, %unnamed
  br i1 %is_form, label %guarded, label %slow

guarded:
  %guards = load ptr, ptr %at_guards
  %no_guards = icmp eq ptr %guards, null
  br i1 %no_guards, label %arguments, label %some_guards
some_guards:
  %variables = load i64, ptr %guards
  %at_cells = getelementptr i64, ptr %guards, i64 1
  %cells = load i64, ptr %at_cells
  %pairs = getelementptr i64, ptr %guards, i64 2
  %last_variable = getelementptr [2 x i64], ptr %pairs, i64 %variables
  %last_cell = getelementptr [2 x i64], ptr %last_variable, i64 %cells
  br label %variable_loop
variable_loop:
  %pair = phi ptr [%pairs, %some_guards], [%pair1, %variable_held]
  %no_variable = icmp eq ptr %pair, %last_variable
  br i1 %no_variable, label %cell_loop, label %variable
variable:
  %context = load ptr, ptr %pair
  %error = call i32 @PyContextVar_Get(ptr %context, ptr null, ptr %held)
  %is_error = icmp ne i32 %error, 0
  br i1 %is_error, label %raise, label %variable_known
variable_known:
  %value = load ptr, ptr %held
  %is_null = icmp eq ptr %value, null
  br i1 %is_null, label %slow, label %variable_value
variable_value:
  call void @Py_DecRef(ptr %value)
  %at_wanted = getelementptr i64, ptr %pair, i64 1
  %wanted = load ptr, ptr %at_wanted
  %same_value = icmp eq ptr %value, %wanted
  br i1 %same_value, label %variable_held, label %slow
variable_held:
  %pair1 = getelementptr i64, ptr %pair, i64 2
  br label %variable_loop
cell_loop:
  %cell = phi ptr [%pair, %variable_loop], [%cell1, %cell_held]
  %no_cell = icmp eq ptr %cell, %last_cell
  br i1 %no_cell, label %arguments, label %cell_value
cell_value:
  %cell_object = load ptr, ptr %cell
  %at_contents = getelementptr i8, ptr %cell_object, i64 {CONTENTS}
  %contents = load ptr, ptr %at_contents
  %at_wanted2 = getelementptr i64, ptr %cell, i64 1
  %wanted2 = load ptr, ptr %at_wanted2
  %same_contents = icmp eq ptr %contents, %wanted2
  br i1 %same_contents, label %cell_held, label %slow
cell_held:
  %cell1 = getelementptr i64, ptr %cell, i64 2
  br label %cell_loop

arguments:
  %i = phi i64 [0, %guarded], [0, %cell_loop], [%i1, %accept]
  %record = phi ptr [%records, %guarded], [%records, %cell_loop], [%record1, %accept]
  %more = icmp ult i64 %i, %inputs
  br i1 %more, label %argument, label %allocate
argument:
  %at_object = getelementptr ptr, ptr %args, i64 %i
  %object = load ptr, ptr %at_object
  %at_type = getelementptr i8, ptr %object, i64 {TYPE}
  %type = load ptr, ptr %at_type
  %is_array = icmp eq ptr %type, @autodiff_ndarray_type
  br i1 %is_array, label %array, label %slow
array:
  %at_dtype = getelementptr i8, ptr %object, i64 {DTYPE}
  %dtype = load ptr, ptr %at_dtype
  %dtype0 = load ptr, ptr %record
  %same_dtype = icmp eq ptr %dtype, %dtype0
  %at_flags = getelementptr i8, ptr %object, i64 {FLAGS}
  %flags = load i32, ptr %at_flags
  %needed = and i32 %flags, {IN_C_ORDER | ALIGNED}
  %behaved = icmp eq i32 %needed, {IN_C_ORDER | ALIGNED}
  %so_far = and i1 %same_dtype, %behaved
  br i1 %so_far, label %rank, label %slow
rank:
  %at_ndim0 = getelementptr i64, ptr %record, i64 1
  %ndim0 = load i64, ptr %at_ndim0
  %shape0 = getelementptr i64, ptr %record, i64 2
  %any_shape = icmp slt i64 %ndim0, 0
  br i1 %any_shape, label %accept, label %exact
exact:
  %at_ndim = getelementptr i8, ptr %object, i64 {NDIM}
  %ndim_narrow = load i32, ptr %at_ndim
  %ndim = sext i32 %ndim_narrow to i64
  %same_rank = icmp eq i64 %ndim, %ndim0
  br i1 %same_rank, label %shaped, label %slow
shaped:
  %at_shape = getelementptr i8, ptr %object, i64 {SHAPE}
  %shape = load ptr, ptr %at_shape
  br label %axes
axes:
  %j = phi i64 [0, %shaped], [%j1, %equal]
  %unseen = icmp ult i64 %j, %ndim
  br i1 %unseen, label %axis, label %accept
axis:
  %at_size = getelementptr i64, ptr %shape, i64 %j
  %size = load i64, ptr %at_size
  %at_size0 = getelementptr i64, ptr %shape0, i64 %j
  %size0 = load i64, ptr %at_size0
  %same_size = icmp eq i64 %size, %size0
  br i1 %same_size, label %equal, label %slow
equal:
  %j1 = add i64 %j, 1
  br label %axes
accept:
  %skipped = phi i64 [0, %rank], [%ndim, %axes]
  %record1 = getelementptr i64, ptr %shape0, i64 %skipped
  %at_address = getelementptr i8, ptr %object, i64 {DATA}
  %address = load ptr, ptr %at_address
  %at_pointer = getelementptr ptr, ptr %pointers, i64 %i
  store ptr %address, ptr %at_pointer
  %i1 = add i64 %i, 1
  br label %arguments

allocate:
  %k = phi i64 [0, %arguments], [%k1, %allocated]
  %out = phi ptr [%record, %arguments], [%out1, %allocated]
  %lacking = icmp ult i64 %k, %outputs
  br i1 %lacking, label %output, label %compute
output:
  %out_dtype = load ptr, ptr %out
  %at_out_ndim = getelementptr i64, ptr %out, i64 1
  %out_ndim = load i64, ptr %at_out_ndim
  %out_ndim_narrow = trunc i64 %out_ndim to i32
  %out_shape = getelementptr i64, ptr %out, i64 2
  call void @Py_IncRef(ptr %out_dtype)
  %new = call ptr @autodiff_new_array(ptr @autodiff_ndarray_type, ptr %out_dtype,
      i32 %out_ndim_narrow, ptr %out_shape, ptr null, ptr null, i32 0, ptr null)
  %failed = icmp eq ptr %new, null
  br i1 %failed, label %undo, label %allocated
allocated:
  %at_new = getelementptr ptr, ptr %objects, i64 %k
  store ptr %new, ptr %at_new
  %at_new_data = getelementptr i8, ptr %new, i64 {DATA}
  %new_data = load ptr, ptr %at_new_data
  %place = add i64 %inputs, %k
  %at_new_pointer = getelementptr ptr, ptr %pointers, i64 %place
  store ptr %new_data, ptr %at_new_pointer
  %out1 = getelementptr i64, ptr %out_shape, i64 %out_ndim
  %k1 = add i64 %k, 1
  br label %allocate

compute:
  %kernel = load ptr, ptr %at_kernel
  %sizes = load ptr, ptr %at_sizes
  %begin = load i64, ptr %at_begin
  %end = load i64, ptr %at_end
  call void %kernel(ptr %pointers, ptr %sizes, i64 %begin, i64 %end)
  %form = load i64, ptr %at_form
  switch i64 %form, label %listed [i64 {ALONE}, label %single i64 {TUPLE}, label %tupled]
single:
  %only = load ptr, ptr %objects
  ret ptr %only
tupled:
  %tuple = call ptr @PyTuple_New(i64 %outputs)
  %no_tuple = icmp eq ptr %tuple, null
  br i1 %no_tuple, label %undo, label %fill_tuple
fill_tuple:
  %p = phi i64 [0, %tupled], [%p1, %put_tuple]
  %left_over = icmp ult i64 %p, %outputs
  br i1 %left_over, label %put_tuple, label %full_tuple
put_tuple:
  %at_entry = getelementptr ptr, ptr %objects, i64 %p
  %entry_object = load ptr, ptr %at_entry
  %r2 = call i32 @PyTuple_SetItem(ptr %tuple, i64 %p, ptr %entry_object)
  %p1 = add i64 %p, 1
  br label %fill_tuple
full_tuple:
  ret ptr %tuple
listed:
  %list = call ptr @PyList_New(i64 %outputs)
  %no_list = icmp eq ptr %list, null
  br i1 %no_list, label %undo, label %fill
fill:
  %m = phi i64 [0, %listed], [%m1, %put]
  %left = icmp ult i64 %m, %outputs
  br i1 %left, label %put, label %full
put:
  %at_item = getelementptr ptr, ptr %objects, i64 %m
  %item = load ptr, ptr %at_item
  %r = call i32 @PyList_SetItem(ptr %list, i64 %m, ptr %item)
  %m1 = add i64 %m, 1
  br label %fill
full:
  ret ptr %list

undo:
  %n = phi i64 [%k, %output], [%k, %listed], [%k, %tupled], [%n1, %drop]
  %some = icmp ne i64 %n, 0
  br i1 %some, label %drop, label %raise
drop:
  %n1 = sub i64 %n, 1
  %at_dropped = getelementptr ptr, ptr %objects, i64 %n1
  %dropped = load ptr, ptr %at_dropped
  call void @Py_DecRef(ptr %dropped)
  br label %undo
raise:
  ret ptr null

slow:
  %fallback = load ptr, ptr %at_fallback
  %answer = call ptr @PyObject_Vectorcall(ptr %fallback, ptr %args, i64 %nargs, ptr %kwnames)
  ret ptr %answer
}}

define void @autodiff_probe(ptr %pointers, ptr %sizes, i64 %begin, i64 %end) nounwind {{
  %x = load ptr, ptr %pointers
  %v = load double, ptr %x
  %last = load i64, ptr %sizes
  %at = getelementptr ptr, ptr %pointers, i64 %last
  %y = load ptr, ptr %at
  %sum = add i64 %begin, %end
  %s = sitofp i64 %sum to double
  %r = fadd double %v, %s
  store double %r, ptr %y
  ret void
}}
"""
