/** Titles of tests, read from their sources without running them: what a reader of a test report would see. */
import ts from 'typescript';

export interface TestTitle {
  file: string;
  line: number;
  /** Titles of the describes around it and its own, joined by " > "; unknown parts of templates are "?". */
  text: string;
}

export interface Scan {
  titles: TestTitle[];
  /** Tests that are switched off, or that switch others off, as `file:line`. */
  disabled: string[];
}

const KINDS = new Set(['describe', 'it', 'test']);
const SILENCERS = new Set(['skip', 'todo', 'only', 'fails']);

interface Block {
  kind: string;
  modifiers: string[];
  /** Argument of `.each`. */
  table: ts.Expression | undefined;
}

/** What `describe`, `it.each([…])`, `test.skip` and the like are, for the callee of a call; undefined for any other callee. */
function blockOf(callee: ts.Expression): Block | undefined {
  const modifiers: string[] = [];
  let table: ts.Expression | undefined;
  let at = callee;
  for (;;) {
    if (ts.isIdentifier(at)) return KINDS.has(at.text) ? { kind: at.text, modifiers, table } : undefined;
    if (ts.isPropertyAccessExpression(at)) {
      modifiers.push(at.name.text);
      at = at.expression;
    } else if (ts.isCallExpression(at) && ts.isPropertyAccessExpression(at.expression)) {
      if (['each', 'for'].includes(at.expression.name.text)) table = at.arguments[0];
      at = at.expression;
    } else {
      return undefined;
    }
  }
}

/** The text of an expression as far as it is literal. */
function literal(node: ts.Expression): string | undefined {
  if (ts.isStringLiteralLike(node)) return node.text;
  if (ts.isNumericLiteral(node) || ts.isBigIntLiteral(node)) return node.getText();
  if (ts.isTemplateExpression(node)) return node.head.text + node.templateSpans.map((span) => `?${span.literal.text}`).join('');
  return undefined;
}

/** Follows `as const`, parentheses and names of constants of the same file. */
function resolve(node: ts.Expression, constants: Map<string, ts.Expression>): ts.Expression {
  if (ts.isAsExpression(node) || ts.isParenthesizedExpression(node) || ts.isSatisfiesExpression(node))
    return resolve(node.expression, constants);
  const value = ts.isIdentifier(node) ? constants.get(node.text) : undefined;
  return value ? resolve(value, constants) : node;
}

/** The values of one row of a table: a tuple, a single value, or the properties of an object. */
function cells(row: ts.Expression): { list: (string | undefined)[]; named: Map<string, string | undefined> } {
  const named = new Map<string, string | undefined>();
  if (ts.isArrayLiteralExpression(row)) return { list: row.elements.map(literal), named };
  if (ts.isObjectLiteralExpression(row)) {
    for (const p of row.properties) if (ts.isPropertyAssignment(p)) named.set(p.name.getText(), literal(p.initializer));
  }
  return { list: [literal(row)], named };
}

/** Fills the placeholders of a title as vitest does: %s and its kin in order, $name by name. */
function format(title: string, { list, named }: ReturnType<typeof cells>): string {
  let next = 0;
  return title
    .replace(/%[sdifjoO#]/g, () => list[next++] ?? '?')
    .replace(/\$([a-zA-Z_]\w*)/g, (whole, name: string) => named.get(name) ?? whole);
}

/** All titles that a test file produces. */
export function scan(file: string, source: string): Scan {
  const tree = ts.createSourceFile(file, source, ts.ScriptTarget.Latest, true);
  const constants = new Map<string, ts.Expression>();
  const titles: TestTitle[] = [];
  const disabled: string[] = [];

  const collect = (node: ts.Node): void => {
    if (ts.isVariableDeclaration(node) && ts.isIdentifier(node.name) && node.initializer) constants.set(node.name.text, node.initializer);
    ts.forEachChild(node, collect);
  };
  collect(tree);

  const visit = (node: ts.Node, around: string[]): void => {
    const block = ts.isCallExpression(node) ? blockOf(node.expression) : undefined;
    if (!block || !ts.isCallExpression(node) || node.arguments.length === 0) {
      ts.forEachChild(node, (child) => visit(child, around));
      return;
    }
    const line = tree.getLineAndCharacterOfPosition(node.getStart()).line + 1;
    if (block.modifiers.some((modifier) => SILENCERS.has(modifier))) {
      disabled.push(`${file}:${line}`);
      return;
    }
    const pattern = literal(resolve(node.arguments[0], constants)) ?? '?';
    const table = block.table && resolve(block.table, constants);
    const rows = table && ts.isArrayLiteralExpression(table) ? table.elements.map((row) => cells(resolve(row, constants))) : undefined;
    const own = rows ? rows.map((row) => format(pattern, row)) : [pattern];
    const full = around.flatMap((outer) => own.map((inner) => (outer ? `${outer} > ${inner}` : inner)));
    if (block.kind !== 'describe') for (const text of full) titles.push({ file, line, text });
    else for (const argument of node.arguments.slice(1)) ts.forEachChild(argument, (child) => visit(child, full));
  };
  visit(tree, ['']);
  return { titles, disabled };
}

/**
 * What a title says it proves: `S-28`, `O-7`, `ref §8.3 row 4`, `ref §3.3 rule 2`, `ref §3.2 STOP × RESET`. A row belongs to
 * the section cited last before it, also when that stands in the title of a describe around the test.
 */
export function citations(text: string): string[] {
  const found = [...text.matchAll(/\b[SO]-\d+\b/g)].map(([number]) => number);
  for (const piece of text.split(/(?=\bref §)/)) {
    const section = /^ref §(\d+(?:\.\d+)*)/.exec(piece)?.[1];
    if (!section) continue;
    for (const [, kind, number] of piece.matchAll(/\b(row|rule) (\d+)\b/g)) found.push(`ref §${section} ${kind} ${number}`);
    for (const [, from, request] of piece.matchAll(/\b([A-Z_]+) × ([A-Z_]+)\b/g)) found.push(`ref §${section} ${from} × ${request}`);
  }
  return found;
}
