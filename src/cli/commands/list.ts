import type { CommandModule } from '../command.js';
export const listCommand: CommandModule = () => {};
