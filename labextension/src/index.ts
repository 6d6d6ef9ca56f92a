import { ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { ILauncher } from '@jupyterlab/launcher';
import { INotebookTracker, NotebookActions } from '@jupyterlab/notebook';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { potIcon } from './icon';
import { PotLabModel } from './model';
import { PotLabPanel } from './panel';

const CommandIDs = {
  open: 'pot-lab:open',
  insertClient: 'pot-lab:insert-client'
} as const;

const CATEGORY = 'PoT Lab';
const CLIENT_CELL = 'import pot_lab\n\nlab = pot_lab.connect()\nlab';
const NO_ARGUMENTS = { args: { type: 'object' as const, properties: {} } };

/** Adds the sidebar, its commands and a launcher card. */
const plugin: JupyterFrontEndPlugin<void> = {
  id: 'pot-lab:plugin',
  description: 'The sidebar of networks and training orders.',
  autoStart: true,
  optional: [ICommandPalette, ILauncher, ILayoutRestorer, INotebookTracker, ISettingRegistry],
  activate: (
    app: JupyterFrontEnd,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
    restorer: ILayoutRestorer | null,
    notebooks: INotebookTracker | null,
    settings: ISettingRegistry | null
  ) => {
    const model = new PotLabModel(app.serviceManager.serverSettings);
    const panel = new PotLabPanel(model);
    app.shell.add(panel, 'left', { rank: 250 });
    restorer?.add(panel, panel.id);

    app.commands.addCommand(CommandIDs.open, {
      label: args => (args['isLauncher'] ? 'Orders' : 'Show Network and Orders'),
      caption: 'Show the network and its training orders in the sidebar',
      icon: potIcon,
      describedBy: NO_ARGUMENTS,
      execute: () => app.shell.activateById(panel.id)
    });
    app.commands.addCommand(CommandIDs.insertClient, {
      label: 'Insert Client Cell',
      caption: 'Insert a cell that connects to the network above the current one',
      icon: potIcon,
      describedBy: NO_ARGUMENTS,
      isEnabled: () => !!notebooks?.currentWidget,
      execute: () => {
        const notebook = notebooks?.currentWidget?.content;
        if (notebook) {
          NotebookActions.insertAbove(notebook);
          notebook.activeCell?.model.sharedModel.setSource(CLIENT_CELL);
        }
      }
    });
    notebooks?.currentChanged.connect(() => app.commands.notifyCommandChanged(CommandIDs.insertClient));
    palette?.addItem({ command: CommandIDs.open, category: CATEGORY });
    palette?.addItem({ command: CommandIDs.insertClient, category: CATEGORY });
    launcher?.add({ command: CommandIDs.open, args: { isLauncher: true }, category: 'Other', rank: 10 });

    settings
      ?.load(plugin.id)
      .then(loaded => {
        const apply = (): void => {
          panel.showEnded = loaded.get('showEnded').composite as boolean;
        };
        apply();
        loaded.changed.connect(apply);
      })
      .catch(error => console.error('pot-lab: settings could not be read', error));
  }
};

export default plugin;
