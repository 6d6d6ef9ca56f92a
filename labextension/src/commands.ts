import { JupyterFrontEnd } from '@jupyterlab/application';
import { ICommandPalette, MainAreaWidget, Notification, WidgetTracker } from '@jupyterlab/apputils';
import { IEditorServices } from '@jupyterlab/codeeditor';
import { ILauncher } from '@jupyterlab/launcher';
import { INotebookTracker, NotebookActions } from '@jupyterlab/notebook';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { ReadonlyJSONObject } from '@lumino/coreutils';
import { FollowedOrder } from './follow';
import { pythonText, short } from './format';
import { potIcon } from './icon';
import { JobTab } from './jobTab';
import { Role, ROLES } from './miners';
import { IOrder, PotLabModel } from './model';
import { openJobNotebook } from './notebook';
import { PotLabPanel } from './panel';
import { call } from './request';

export const CommandIDs = {
  open: 'pot-lab:open',
  openOrder: 'pot-lab:open-order',
  newOrder: 'pot-lab:new-order',
  orderAgain: 'pot-lab:order-again',
  openJob: 'pot-lab:open-job',
  openNotebook: 'pot-lab:open-job-notebook',
  openRecipe: 'pot-lab:open-recipe',
  startMiner: 'pot-lab:start-miner',
  network: 'pot-lab:network',
  insertClient: 'pot-lab:insert-client',
  allowNotifications: 'pot-lab:allow-notifications'
} as const;

const CATEGORY = 'PoT Lab';
const CLIENT_CELL = 'import pot_lab\n\nlab = pot_lab.connect()\nlab';

/** Notebooks that come with the package, with what they are for. */
const RECIPES: { [name: string]: string } = {
  tour: 'Tour: the Whole Cycle',
  order: 'Order a Training',
  tasks: 'Ten Tasks to Order',
  provider: 'A Provider’s Recipe',
  miner: 'A Miner around the Clock'
};
const IN_LAUNCHER = ['tour', 'order', 'provider'];

/** What the commands work with; each may be missing in an application that is not JupyterLab. */
export interface IParts {
  app: JupyterFrontEnd;
  model: PotLabModel;
  palette: ICommandPalette | null;
  editors: IEditorServices | null;
  launcher: ILauncher | null;
  notebooks: INotebookTracker | null;
  renderers: IRenderMimeRegistry | null;
  orders: WidgetTracker<MainAreaWidget>;
  jobs: WidgetTracker<MainAreaWidget>;
}

/** The arguments of a command, described for whoever calls it by program. */
function described(properties: { [name: string]: string }, required: string[] = []): { args: ReadonlyJSONObject } {
  const entries = Object.entries(properties).map(([name, description]) => [name, { type: 'string', description }]);
  return { args: { type: 'object', properties: Object.fromEntries(entries) as ReadonlyJSONObject, required } };
}

/** Add the commands of orders, jobs, miners and networks, and their places in palette and launcher. */
export function addCommands(parts: IParts, panel: PotLabPanel, allow: () => Promise<void>): void {
  const { app, model, palette, launcher, notebooks } = parts;
  const { commands, shell } = app;
  const showPanel = (): void => shell.activateById(panel.id);
  const fail = (what: string) => (error: Error) => void Notification.error(`${what}: ${error.message}`);

  commands.addCommand(CommandIDs.open, {
    label: args => (args['isLauncher'] ? 'Orders' : 'Show Network and Orders'),
    caption: 'Show the network and its training orders in the sidebar',
    icon: potIcon,
    describedBy: described({}),
    execute: showPanel
  });
  const addTab = (tabs: WidgetTracker<MainAreaWidget>, name: string, make: () => MainAreaWidget): void => {
    if (!tabs.find(tab => tab.id === name)) {
      const tab = make();
      tab.id = name;
      tab.title.icon = potIcon;
      void tabs.add(tab);
      shell.add(tab, 'main');
    }
    shell.activateById(name);
  };
  commands.addCommand(CommandIDs.openOrder, {
    label: args => (args['id'] ? `Order ${short(args['id'] as string)}` : 'Show Order'),
    caption: 'Show an order in a tab of its own',
    icon: potIcon,
    describedBy: described({ id: 'The order’s id, 64 hexadecimal digits' }, ['id']),
    execute: args => {
      const id = args['id'] as string;
      addTab(parts.orders, `pot-lab-order-${id}`, () => {
        const content = new FollowedOrder(model, { onOrderAgain: order => orderAgain(parts, panel, order) });
        content.followOrder(id, null);
        content.title.label = `Order ${short(id)}`;
        return new MainAreaWidget({ content });
      });
    }
  });
  commands.addCommand(CommandIDs.openJob, {
    label: args => (args['id'] ? `Job ${args['id'] as string}` : 'Show Job'),
    caption: 'Show a job in a tab of its own: its curves, its log, what it takes',
    icon: potIcon,
    describedBy: described({ id: 'The job’s id' }, ['id']),
    execute: args => {
      const id = args['id'] as string;
      addTab(parts.jobs, `pot-lab-job-${id}`, () => {
        const openNotebook = (job: string): void => void commands.execute(CommandIDs.openNotebook, { id: job });
        const openOrder = (order: string): void => void commands.execute(CommandIDs.openOrder, { id: order });
        const content = new JobTab(model, id, { openNotebook, openOrder });
        content.title.label = `Job ${id}`;
        return new MainAreaWidget({ content });
      });
    }
  });
  commands.addCommand(CommandIDs.newOrder, {
    label: args => (args['isLauncher'] ? 'New Order' : 'New Order…'),
    caption: 'Fill in the form of a new order; nothing is paid before its cost was shown',
    icon: potIcon,
    describedBy: described({}),
    execute: () => {
      showPanel();
      panel.change({ ordering: true });
    }
  });
  commands.addCommand(CommandIDs.orderAgain, {
    label: 'Insert a Cell That Orders Again',
    caption: 'Insert a cell that orders an earlier order’s model and data once more, from its winner',
    icon: potIcon,
    describedBy: described({ id: 'The earlier order’s id' }, ['id']),
    isEnabled: () => !!notebooks?.currentWidget,
    execute: args => {
      const id = pythonText(args['id'] as string);
      insertCell(notebooks, `${CLIENT_CELL.replace(/lab$/, '')}order = lab.again(${id}, test=(xt, yt))\norder`);
    }
  });
  commands.addCommand(CommandIDs.openNotebook, {
    label: 'Show a Job’s Notebook',
    caption: 'Show the executed notebook of a job, to be read only',
    icon: potIcon,
    describedBy: described({ id: 'The job’s id' }, ['id']),
    isEnabled: () => parts.renderers !== null && parts.editors !== null,
    execute: async args => {
      const id = args['id'] as string;
      const name = `pot-lab-notebook-${id}`;
      if (!Array.from(shell.widgets('main')).some(one => one.id === name)) {
        try {
          shell.add(await openJobNotebook(model, id, parts.renderers!, parts.editors!), 'main');
        } catch (error) {
          fail('No notebook of this job can be shown')(error as Error);
          return;
        }
      }
      shell.activateById(name);
    }
  });
  commands.addCommand(CommandIDs.openRecipe, {
    label: args => RECIPES[args['name'] as string] ?? 'Open a Notebook of PoT Lab',
    caption: 'Copy a notebook that comes with PoT Lab into the current folder, unless it is there, and open it',
    icon: potIcon,
    describedBy: described({ name: `One of ${Object.keys(RECIPES).join(', ')}` }, ['name']),
    execute: args =>
      call<{ path: string }>(model.settings, `notebooks/${args['name'] as string}`, {})
        .then(({ path }) => commands.execute('docmanager:open', { path }))
        .catch(fail('The notebook cannot be opened'))
  });
  commands.addCommand(CommandIDs.startMiner, {
    label: args => `Start a ${(args['role'] as string) || 'miner'}…`,
    caption: 'Fill in the form of a miner: its account, its notebook and the notebook’s parameters',
    icon: potIcon,
    describedBy: described({ role: `One of ${ROLES.join(', ')}` }),
    execute: args => {
      showPanel();
      panel.change({ starting: (args['role'] as Role) || 'provider' });
    }
  });
  commands.addCommand(CommandIDs.network, {
    label: args => (args['action'] === 'stop' ? 'Stop the Network' : 'Start the Network, or Bring It Back'),
    caption: 'Start or stop the testnet of this host that the panel follows',
    icon: potIcon,
    describedBy: described({ action: 'start or stop', name: 'The testnet’s name' }, ['action']),
    execute: async args => {
      const action = args['action'] === 'stop' ? 'stop' : 'start';
      const known = model.state?.network?.name ?? model.state?.testnets[0]?.name;
      const name = (args['name'] as string) || known || 'local';
      const done = call<{ name: string }>(model.settings, `networks/${name}/${action}`, {});
      Notification.promise(done, {
        pending: { message: `${action === 'stop' ? 'Stopping' : 'Starting'} “${name}”…` },
        success: { message: () => `“${name}” is ${action === 'stop' ? 'stopped' : 'up'}` },
        error: { message: error => `“${name}”: ${(error as Error).message}` }
      });
      await done.catch(() => undefined);
    }
  });
  commands.addCommand(CommandIDs.insertClient, {
    label: 'Insert Client Cell',
    caption: 'Insert a cell that connects to the network above the current one',
    icon: potIcon,
    describedBy: described({}),
    isEnabled: () => !!notebooks?.currentWidget,
    execute: () => insertCell(notebooks, CLIENT_CELL)
  });
  commands.addCommand(CommandIDs.allowNotifications, {
    label: 'Tell Me by the Browser Too',
    caption: 'Ask the browser to show when an order has a model while Lab is not seen',
    icon: potIcon,
    describedBy: described({}),
    execute: () => allow().catch(fail('The browser does not show notifications'))
  });
  notebooks?.currentChanged.connect(() => {
    commands.notifyCommandChanged(CommandIDs.insertClient);
    commands.notifyCommandChanged(CommandIDs.orderAgain);
  });

  const inPalette: [string, ReadonlyJSONObject?][] = [
    [CommandIDs.open],
    [CommandIDs.newOrder],
    [CommandIDs.insertClient],
    ...ROLES.map((role): [string, ReadonlyJSONObject] => [CommandIDs.startMiner, { role }]),
    ...Object.keys(RECIPES).map((name): [string, ReadonlyJSONObject] => [CommandIDs.openRecipe, { name }]),
    [CommandIDs.network, { action: 'start' }],
    [CommandIDs.network, { action: 'stop' }],
    [CommandIDs.allowNotifications]
  ];
  inPalette.forEach(([command, args]) => palette?.addItem({ command, args, category: CATEGORY }));
  launcher?.add({ command: CommandIDs.open, args: { isLauncher: true }, category: CATEGORY, rank: 0 });
  launcher?.add({ command: CommandIDs.newOrder, args: { isLauncher: true }, category: CATEGORY, rank: 1 });
  IN_LAUNCHER.forEach((name, place) =>
    launcher?.add({ command: CommandIDs.openRecipe, args: { name }, category: CATEGORY, rank: 2 + place })
  );
}

/** Begin an order like an earlier one, in the panel's form. */
export function orderAgain(parts: IParts, panel: PotLabPanel, order: IOrder): void {
  parts.app.shell.activateById(panel.id);
  panel.change({ ordering: order });
}

function insertCell(notebooks: INotebookTracker | null, source: string): void {
  const notebook = notebooks?.currentWidget?.content;
  if (notebook) {
    NotebookActions.insertAbove(notebook);
    notebook.activeCell?.model.sharedModel.setSource(source);
  }
}
