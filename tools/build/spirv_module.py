# SPDX-License-Identifier: MIT
"""What a SPIR-V module says about itself: its capabilities, and the shared memory of a workgroup. Numbers of opcodes and their
operands are those of the SPIR-V specification, version 1.6, chapter 3."""

import operator
import struct

OP_CAPABILITY, OP_TYPE_BOOL, OP_TYPE_INT, OP_TYPE_FLOAT, OP_TYPE_VECTOR, OP_TYPE_ARRAY, OP_TYPE_STRUCT, OP_TYPE_POINTER = (
    17, 20, 21, 22, 23, 28, 30, 32)
OP_CONSTANT_TRUE, OP_CONSTANT_FALSE, OP_CONSTANT, OP_CONSTANT_COMPOSITE = 41, 42, 43, 44
OP_SPEC_CONSTANT_TRUE, OP_SPEC_CONSTANT_FALSE, OP_SPEC_CONSTANT, OP_SPEC_CONSTANT_COMPOSITE, OP_SPEC_CONSTANT_OP = 48, 49, 50, 51, 52
OP_FUNCTION, OP_VARIABLE, OP_DECORATE, OP_COMPOSITE_EXTRACT = 54, 59, 71, 81
DECORATION_SPEC_ID, STORAGE_WORKGROUP = 1, 4
VARIABLE_ALIGNMENT = 16     # drivers place each variable at a multiple of at most this

OPERATIONS = {
    128: operator.add, 130: operator.sub, 132: operator.mul, 134: operator.floordiv, 135: operator.floordiv, 137: operator.mod,
    194: operator.rshift, 196: operator.lshift, 197: operator.or_, 198: operator.xor, 199: operator.and_,
    166: operator.or_, 167: operator.and_, 168: lambda a: not a, 169: lambda c, a, b: a if c else b,
    170: operator.eq, 171: operator.ne, 172: operator.gt, 173: operator.gt, 174: operator.ge, 175: operator.ge,
    176: operator.lt, 177: operator.lt, 178: operator.le, 179: operator.le,
}


def instructions(spirv):
    """(opcode, operands) of all instructions before the first function."""
    words = struct.unpack(f"<{len(spirv) // 4}I", spirv)
    position = 5
    while position < len(words):
        code, count = words[position] & 0xFFFF, words[position] >> 16
        if code == OP_FUNCTION or count == 0:
            return
        yield code, words[position + 1:position + count]
        position += count


def capabilities(spirv):
    """Numbers of the capabilities that the module declares."""
    return [operands[0] for code, operands in instructions(spirv) if code == OP_CAPABILITY]


class SharedMemory:
    """The shared memory of a workgroup, for any values of the specialisation constants."""

    def __init__(self, spirv):
        self.types, self.constants, self.spec_ids, self.variables = {}, {}, {}, []
        self.asked = set()      # specialisation constants that the size depends on
        for code, operands in instructions(spirv):
            self.read(code, operands)

    def read(self, code, operands):
        if code == OP_DECORATE and operands[1] == DECORATION_SPEC_ID:
            self.spec_ids[operands[0]] = operands[2]
        elif code in (OP_TYPE_BOOL, OP_TYPE_INT, OP_TYPE_FLOAT, OP_TYPE_VECTOR, OP_TYPE_ARRAY, OP_TYPE_STRUCT, OP_TYPE_POINTER):
            self.types[operands[0]] = (code, operands[1:])
        elif code in (OP_CONSTANT_TRUE, OP_CONSTANT_FALSE, OP_SPEC_CONSTANT_TRUE, OP_SPEC_CONSTANT_FALSE):
            self.constants[operands[1]] = (code, (int(code in (OP_CONSTANT_TRUE, OP_SPEC_CONSTANT_TRUE)),))
        elif OP_CONSTANT <= code <= OP_CONSTANT_COMPOSITE or OP_SPEC_CONSTANT <= code <= OP_SPEC_CONSTANT_OP:
            self.constants[operands[1]] = (code, operands[2:])
        elif code == OP_VARIABLE and operands[2] == STORAGE_WORKGROUP:
            self.variables.append(operands[0])

    def value(self, ident, spec):
        code, operands = self.constants[ident]
        if ident in self.spec_ids:
            self.asked.add(self.spec_ids[ident])
            return spec.get(self.spec_ids[ident], operands[0])
        if code != OP_SPEC_CONSTANT_OP:
            return operands[0]
        operation, arguments = operands[0], operands[1:]
        if operation == OP_COMPOSITE_EXTRACT:
            return self.value(self.constants[arguments[0]][1][arguments[1]], spec)
        return int(OPERATIONS[operation](*(self.value(a, spec) for a in arguments))) & 0xFFFFFFFF

    def size(self, ident, spec):
        code, operands = self.types[ident]
        if code in (OP_TYPE_INT, OP_TYPE_FLOAT):
            return operands[0] // 8
        if code == OP_TYPE_BOOL:
            return 4
        if code == OP_TYPE_VECTOR:
            return operands[1] * self.size(operands[0], spec)
        if code == OP_TYPE_ARRAY:
            return self.value(operands[1], spec) * self.size(operands[0], spec)
        return sum(self.size(member, spec) for member in operands)

    def bytes(self, spec):
        """Under {specialisation constant: value}; constants that are not named have the module's own values."""
        return sum(-(-self.size(self.types[pointer][1][1], spec) // VARIABLE_ALIGNMENT) * VARIABLE_ALIGNMENT
                   for pointer in self.variables)
