import { MainAreaWidget } from '@jupyterlab/apputils';
import { IEditorServices } from '@jupyterlab/codeeditor';
import { NotebookModel, StaticNotebook } from '@jupyterlab/notebook';
import { INotebookContent } from '@jupyterlab/nbformat';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { potIcon } from './icon';
import { PotLabModel } from './model';
import { call } from './request';

/** A job's executed notebook in a tab, to be read and not run: it has no kernel, and its outputs are not trusted. */
export async function openJobNotebook(
  model: PotLabModel,
  id: string,
  renderers: IRenderMimeRegistry,
  editors: IEditorServices
): Promise<MainAreaWidget> {
  const content = await call<INotebookContent>(model.settings, `jobs/${id}/notebook`);
  const notebook = new StaticNotebook({
    rendermime: renderers.clone(),
    contentFactory: new StaticNotebook.ContentFactory({
      editorFactory: options => editors.factoryService.newInlineEditor(options)
    }),
    mimeTypeService: editors.mimeTypeService,
    notebookConfig: { ...StaticNotebook.defaultNotebookConfig, windowingMode: 'none' }
  });
  const shown = new NotebookModel();
  shown.fromJSON(content);
  Array.from(shown.cells).forEach(cell => cell.setMetadata('editable', false));
  shown.readOnly = true;
  notebook.model = shown;
  notebook.addClass('pot-JobNotebook');
  const tab = new MainAreaWidget({ content: notebook });
  tab.id = `pot-lab-notebook-${id}`;
  tab.title.label = `Job ${id}`;
  tab.title.caption = 'The executed notebook of a job, to be read only';
  tab.title.icon = potIcon;
  tab.disposed.connect(() => shown.dispose());
  return tab;
}
