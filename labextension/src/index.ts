import { ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, MainAreaWidget, WidgetTracker } from '@jupyterlab/apputils';
import { IEditorServices } from '@jupyterlab/codeeditor';
import { ILauncher } from '@jupyterlab/launcher';
import { INotebookTracker } from '@jupyterlab/notebook';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { IStateDB } from '@jupyterlab/statedb';
import { IStatusBar } from '@jupyterlab/statusbar';
import { addCommands, CommandIDs, IParts, orderAgain } from './commands';
import { PotLabModel } from './model';
import { Notifier, Told } from './notify';
import { orderRenderers } from './output';
import { PotLabPanel } from './panel';
import { StatusItem } from './status';

/** Adds the sidebar, its commands, launcher cards, the status item, and orders as outputs of notebooks. */
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
    IStateDB,
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
    memory: IStateDB | null,
    statusBar: IStatusBar | null
  ) => {
    const model = new PotLabModel(app.serviceManager.serverSettings);
    const orders = new WidgetTracker<MainAreaWidget>({ namespace: 'pot-lab-order' });
    const jobs = new WidgetTracker<MainAreaWidget>({ namespace: 'pot-lab-job' });
    const parts: IParts = { app, model, palette, editors, launcher, notebooks, renderers, orders, jobs };
    const run = (command: string) => (id: string) => void app.commands.execute(command, { id });
    const panel = new PotLabPanel(model, {
      openOrder: run(CommandIDs.openOrder),
      openNotebook: run(CommandIDs.openNotebook),
      openJob: run(CommandIDs.openJob),
      insertAgain: run(CommandIDs.orderAgain)
    });
    const showPanel = (): void => app.shell.activateById(panel.id);
    const notifier = new Notifier(
      model,
      { openOrder: run(CommandIDs.openOrder), openJob: run(CommandIDs.openJob), openPanel: showPanel },
      memory
    );
    renderers?.addFactory(
      orderRenderers(model, {
        onOpen: run(CommandIDs.openOrder),
        onOrderAgain: order => orderAgain(parts, panel, order)
      })
    );
    app.shell.add(panel, 'left', { rank: 250 });
    restorer?.add(panel, panel.id);
    statusBar?.registerStatusItem('pot-lab:status', {
      item: new StatusItem(model, showPanel),
      align: 'left',
      rank: 60
    });
    const loading = settings?.load(plugin.id);
    addCommands(parts, panel, async () => {
      if ((await window.Notification.requestPermission()) !== 'granted') {
        throw new Error('it was not allowed to');
      }
      await (await loading)?.set('notifications', 'browser');
    });
    const restored: [WidgetTracker<MainAreaWidget>, string, string][] = [
      [orders, CommandIDs.openOrder, 'pot-lab-order-'],
      [jobs, CommandIDs.openJob, 'pot-lab-job-']
    ];
    restored.forEach(([tabs, command, prefix]) => {
      const args = (tab: MainAreaWidget): { id: string } => ({ id: tab.id.replace(prefix, '') });
      void restorer?.restore(tabs, { command, args, name: tab => tab.id });
    });
    loading
      ?.then(loaded => {
        const apply = (): void => {
          const number = (name: string): number => loaded.get(name).composite as number;
          panel.change({
            showEnded: loaded.get('showEnded').composite as boolean,
            electricity: {
              watts: number('watts'),
              kwhPrice: number('kwhPrice'),
              potPrice: number('potPrice'),
              currency: loaded.get('currency').composite as string
            }
          });
          notifier.told = loaded.get('notifications').composite as Told;
        };
        apply();
        loaded.changed.connect(apply);
      })
      .catch(error => console.error('pot-lab: settings could not be read', error));
  }
};

export default plugin;
