import { listFunctions } from '../../bus/index.js';
import { type CommandModule, withJson } from '../command.js';
import { formatPairs } from '../format.js';

export const listCommand: CommandModule = (program, terminal) => {
  const command = program.command('list').description('what this machine could open');
  withJson(command).action(() => {
    const found = listFunctions().map(({ uri, description, hint }) => ({ uri, description, hint }));
    terminal.result(found);
    terminal.print(formatPairs(found.map(({ uri, description }) => [terminal.out.bold(uri), description])));
    for (const { uri, hint } of found) if (hint !== undefined) terminal.print(terminal.out.dim(`${uri} cannot be opened yet: ${hint}`));
  });
};
