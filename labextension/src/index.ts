import { ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, MainAreaWidget, Notification, WidgetTracker } from '@jupyterlab/apputils';
import { IEditorServices } from '@jupyterlab/codeeditor';
import { ILauncher } from '@jupyterlab/launcher';
import { INotebookTracker, NotebookActions } from '@jupyterlab/notebook';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { IStatusBar } from '@jupyterlab/statusbar';
import { FollowedOrder } from './follow';
import { short } from './format';
import { potIcon } from './icon';
import { PotLabModel } from './model';
import { openJobNotebook } from './notebook';
import { orderRenderers } from './output';
import { PotLabPanel } from './panel';
import { StatusItem } from './status';

const CommandIDs = {
  open: 'pot-lab:open',
  openOrder: 'pot-lab:open-order',
  newOrder: 'pot-lab:new-order',
  openNotebook: 'pot-lab:open-job-notebook',
  insertClient: 'pot-lab:insert-client'
} as const;

const CATEGORY = 'PoT Lab';
const CLIENT_CELL = 'import pot_lab\n\nlab = pot_lab.connect()\nlab';
const NO_ARGUMENTS = { args: { type: 'object' as const, properties: {} } };
const JOB_ARGUMENTS = {
  args: {
    type: 'object' as const,
    properties: { id: { type: 'string' as const, description: 'The job’s id' } },
    required: ['id']
  }
};
const ORDER_ARGUMENTS = {
  args: {
    type: 'object' as const,
    properties: { id: { type: 'string' as const, description: 'The order’s id, 64 hexadecimal digits' } },
    required: ['id']
  }
};

/** Adds the sidebar, its commands and a launcher card. */
const plugin: JupyterFrontEndPlugin<void> = {
  id: 'pot-lab:plugin',
  description: 'Networks, training orders, wallet, miners and jobs.',
  autoStart: true,
  optional: [
    ICommandPalette,
    IEditorServices,
    ILauncher,
    ILayoutRestorer,
    INotebookTracker,
    IRenderMimeRegistry,
    ISettingRegistry,
    IStatusBar
  ],
  activate: (
    app: JupyterFrontEnd,
    palette: ICommandPalette | null,
    editors: IEditorServices | null,
    launcher: ILauncher | null,
    restorer: ILayoutRestorer | null,
    notebooks: INotebookTracker | null,
    renderers: IRenderMimeRegistry | null,
    settings: ISettingRegistry | null,
    statusBar: IStatusBar | null
  ) => {
    const model = new PotLabModel(app.serviceManager.serverSettings);
    const openOrder = (id: string): void => void app.commands.execute(CommandIDs.openOrder, { id });
    const openNotebook = (id: string): void => void app.commands.execute(CommandIDs.openNotebook, { id });
    const orderAgain = (): void => void app.commands.execute(CommandIDs.newOrder);
    const panel = new PotLabPanel(model, { openOrder, openNotebook });
    renderers?.addFactory(orderRenderers(model, { onOpen: openOrder, onOrderAgain: orderAgain }));
    const tabs = new WidgetTracker<MainAreaWidget<FollowedOrder>>({ namespace: 'pot-lab-order' });
    app.shell.add(panel, 'left', { rank: 250 });
    restorer?.add(panel, panel.id);

    app.commands.addCommand(CommandIDs.open, {
      label: args => (args['isLauncher'] ? 'Orders' : 'Show Network and Orders'),
      caption: 'Show the network and its training orders in the sidebar',
      icon: potIcon,
      describedBy: NO_ARGUMENTS,
      execute: () => app.shell.activateById(panel.id)
    });
    app.commands.addCommand(CommandIDs.openOrder, {
      label: args => (args['id'] ? `Order ${short(args['id'] as string)}` : 'Show Order'),
      caption: 'Show an order in a tab of its own',
      icon: potIcon,
      describedBy: ORDER_ARGUMENTS,
      execute: args => {
        const id = args['id'] as string;
        const name = `pot-lab-order-${id}`;
        const before = tabs.find(tab => tab.id === name);
        if (before) {
          app.shell.activateById(name);
          return;
        }
        const content = new FollowedOrder(model, { onOrderAgain: orderAgain });
        content.followOrder(id, null);
        const tab = new MainAreaWidget({ content });
        tab.id = name;
        tab.title.label = `Order ${short(id)}`;
        tab.title.icon = potIcon;
        void tabs.add(tab);
        app.shell.add(tab, 'main');
      }
    });
    app.commands.addCommand(CommandIDs.newOrder, {
      label: 'New Order…',
      caption: 'Fill in the form of a new order; nothing is paid before its cost was shown',
      icon: potIcon,
      describedBy: NO_ARGUMENTS,
      execute: () => {
        app.shell.activateById(panel.id);
        panel.isOrdering = true;
      }
    });
    app.commands.addCommand(CommandIDs.openNotebook, {
      label: 'Show a Job’s Notebook',
      caption: 'Show the executed notebook of a job, to be read only',
      icon: potIcon,
      describedBy: JOB_ARGUMENTS,
      isEnabled: () => renderers !== null && editors !== null,
      execute: async args => {
        const id = args['id'] as string;
        const name = `pot-lab-job-${id}`;
        if (!Array.from(app.shell.widgets('main')).some(one => one.id === name)) {
          try {
            app.shell.add(await openJobNotebook(model, id, renderers!, editors!), 'main');
          } catch (error) {
            Notification.error(`No notebook of this job can be shown: ${(error as Error).message}`);
            return;
          }
        }
        app.shell.activateById(name);
      }
    });
    void restorer?.restore(tabs, {
      command: CommandIDs.openOrder,
      args: tab => ({ id: tab.id.replace('pot-lab-order-', '') }),
      name: tab => tab.id
    });
    statusBar?.registerStatusItem('pot-lab:status', {
      item: new StatusItem(model, () => app.shell.activateById(panel.id)),
      align: 'left',
      rank: 60
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
    palette?.addItem({ command: CommandIDs.newOrder, category: CATEGORY });
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
