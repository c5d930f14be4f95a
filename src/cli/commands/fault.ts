import { ArgumentError } from '../../errors.js';
import { exampleOf, FAULTS, type Fault, findFault, PARAMETERS, type Parameter } from '../../fault/index.js';
import { type CommandModule, withJson } from '../command.js';
import { formatPairs, formatTable } from '../format.js';
import type { Terminal } from '../terminal.js';

const HELP = `
A plan of faults is part of a function's URI, and of --function wherever a command takes one. A
function that is served to others has one as well:
  sdxi test 'embedded:?faults=F-2:every=100;F-44:every=10'
  sdxi serve --socket /tmp/sdxi.sock --fault 'F-2:every=100;F-44:every=10'
In programs: bus.setFaults('F-2') switches while the function runs. docs/faults.md has a page for each.`;

export const faultCommand: CommandModule = (program, terminal) => {
  const command = program
    .command('fault')
    .description('what can go wrong on demand: the fault catalogue')
    .argument('[id]', 'one fault, in full')
    .option('--list', 'all of them');
  withJson(command)
    .addHelpText('after', HELP)
    .action((id: string | undefined, { list }: { list?: boolean }) => {
      if (id === undefined || list) {
        if (id !== undefined) throw new ArgumentError('--list shows all faults', { hint: `sdxi fault ${id} shows one` });
        printAll(terminal);
        return;
      }
      const fault = findFault(id);
      if (!fault) throw new ArgumentError(`there is no fault "${id}"`, { hint: `faults are F-1 … F-${FAULTS.length}: sdxi fault --list` });
      printOne(terminal, fault);
    });
};

function printAll(terminal: Terminal): void {
  terminal.result(FAULTS.map(({ id, title, provokable, reason }) => ({ id, title, provokable, reason })));
  const rows = FAULTS.map(({ id, title, provokable, config }) => [id, title, provokable ? (config ? 'when opened' : 'at any time') : 'no']);
  terminal.print(formatTable(['fault', 'what happens', 'on demand'], rows, { left: 3 }));
}

function printOne(terminal: Terminal, fault: Fault): void {
  const { id, title, provokable, reason, parameters, defaults, does, exposes, use } = fault;
  const example = exampleOf(fault);
  terminal.result({ ...fault, example });
  const { out } = terminal;
  terminal.print(out.bold(`${id}  ${title}`));
  if (!provokable) terminal.print(`cannot be provoked; ${reason}`);
  terminal.print(`\n${does}\n\n${out.bold('what it exposes')}\n${exposes}\n\n${out.bold('how to use it')}\n${use}`);
  if (example !== undefined) terminal.print(`\n${out.bold('for example')}\n${example}`);
  if (parameters.length === 0) return;
  terminal.print(`\n${out.bold('parameters')}`);
  const own = (name: Parameter) => (defaults[name] === undefined ? '' : `; here ${defaults[name]} by default`);
  terminal.print(
    formatPairs(
      parameters.map((name) => [name, `${PARAMETERS[name]}${own(name)}`]),
      '  ',
    ),
  );
}
