/* syntax.h - a module of PTX as a tree: parse/ builds it, decode/ reads it.
 *
 * A module has functions and variables; a function has symbols, labels and statements, in the order
 * of the text. Operands refer to their registers, variables and parameters. Labels and functions
 * are still names, because they may be defined later in the text.
 *
 * The pool of struct sim_syntax owns every node. The arrays that grow are freed one by one
 * (sim_syntax_free). A module owns its syntax for as long as it is loaded, because reports name
 * source lines. */
#ifndef FOVEA_SIMGPU_PARSE_SYNTAX_H
#define FOVEA_SIMGPU_PARSE_SYNTAX_H

#include "simgpu/base.h"

enum sim_symbol_kind {
  SIM_SYMBOL_REGISTERS, /* one register, or a family: %r<9> */
  SIM_SYMBOL_PARAM,
  SIM_SYMBOL_LOCAL,
  SIM_SYMBOL_SHARED,
  SIM_SYMBOL_GLOBAL,
  SIM_SYMBOL_CONST,
  SIM_SYMBOL_LABEL,
  SIM_SYMBOL_TARGETS, /* .branchtargets: the labels that brx.idx chooses from */
};

/* A place in an initialiser that holds the address of another variable. */
struct sim_relocation {
  const char *name;
  u64 offset, addend;
};

struct sim_symbol {
  const char *name;
  enum sim_symbol_kind kind;
  u32 scope; /* of its function; the scopes that enclose it are in scope_parents */
  u32 first_register, register_count, register_bytes; /* predicates have 0 bytes */
  bool is_family;
  u64 bytes;
  /* Of a parameter: in the parameter space. Of a variable: its address, once it has one. */
  u64 offset;
  u32 align;
  bool is_external; /* of shared memory: its size is given at the launch */
  u8 *data;         /* initial value, or NULL for zeros */
  struct sim_relocation *relocations;
  u32 relocation_count;
  u32 statement;       /* of a label: index of the statement behind it */
  const char **labels; /* of branch targets */
  u32 label_count;
  struct sim_symbol *next;
};

enum sim_operand_kind {
  SIM_OPERAND_REGISTER,
  SIM_OPERAND_SPECIAL,
  SIM_OPERAND_LITERAL,
  SIM_OPERAND_SYMBOL, /* the address of a variable plus an offset */
  SIM_OPERAND_NAME,   /* a label or a function */
  SIM_OPERAND_MEMORY, /* [base + offset]; base is items[0] */
  SIM_OPERAND_VECTOR, /* {a, b}, or (a, b) of a call */
  SIM_OPERAND_PAIR,   /* a|b */
  SIM_OPERAND_SINK,   /* _ */
};

enum sim_literal { SIM_LITERAL_INTEGER, SIM_LITERAL_F32, SIM_LITERAL_F64 };

struct sim_operand {
  enum sim_operand_kind kind;
  enum sim_literal literal;
  bool is_negated;                    /* !p */
  u32 register_index, register_bytes; /* the index counts all registers of the function */
  u64 bits;                           /* of a literal: an integer, or a float of its own width */
  s64 offset;
  const char *name;
  struct sim_symbol *symbol;
  struct sim_operand *items; /* of an address, vector, list or pair */
  u32 count;
};

/* One instruction: @guard opcode operands; */
struct sim_statement {
  const char *opcode; /* with all its modifiers */
  u32 ptx_line, location, scope;
  bool is_guarded;
  struct sim_operand guard;
  struct sim_operand *operands;
  u32 count;
};

enum { SIM_NO_LOCATION = UINT32_MAX };

struct sim_location {
  u32 file, line, column;
  u32 inlined_at; /* index of the location of the call, or SIM_NO_LOCATION */
};

struct sim_function {
  const char *name;
  bool is_entry, has_body;
  struct sim_symbol *params, *returns; /* in order */
  u32 param_bytes;
  struct sim_symbol *symbols; /* the body's, last first */
  struct sim_symbol *labels;  /* and branch targets: thousands, kept apart for a fast search */
  u32 *scope_parents;         /* [scope]: the scope that encloses it */
  u32 scope_count, scope_capacity;
  struct sim_statement *statements;
  u32 statement_count, statement_capacity;
  u32 register_count;
  u32 max_threads;         /* .maxntid, or 0 */
  u32 required_threads[3]; /* .reqntid, or 0 */
  struct sim_function *next;
};

struct sim_syntax {
  struct sim_pool pool;
  struct sim_function *functions;
  struct sim_symbol *globals; /* last first */
  const char **files;         /* by number */
  u32 file_count;
  struct sim_location *locations;
  u32 location_count, location_capacity;
};

/* False: error says why, with the PTX line. The text may be freed afterwards. */
bool sim_parse(struct sim_syntax *syntax, const char *text, char *error, size_t error_bytes);
void sim_syntax_free(struct sim_syntax *syntax);
/* A function with a body if there is one, else its declaration, else NULL. */
struct sim_function *sim_find_function(struct sim_syntax *syntax, const char *name);
/* The label or list of branch targets that a scope of a function sees under a name, or NULL. */
const struct sim_symbol *sim_find_label(const struct sim_function *function, u32 scope,
                                        const char *name);

#endif /* FOVEA_SIMGPU_PARSE_SYNTAX_H */
